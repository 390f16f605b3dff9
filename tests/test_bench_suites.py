"""bench/: every measurement runs, for tiny counts; what it measures is not looked at."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.netns import netns  # noqa: F401

pytestmark = pytest.mark.packaging      # needs bench/, which a tree of tests alone does not have
ROOT = Path(__file__).parent.parent


def run(*arguments, timeout=300):
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                          cwd=ROOT, check=False)


def test_every_suite_runs():
    pytest.importorskip("pytest_benchmark")
    done = run("bench", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", ["pingpong", "cycle", "bulk"])
def test_every_instruction_case_counts_something(case):
    sys.path.insert(0, str(ROOT))
    try:
        from bench.instructions import CASES
    finally:
        sys.path.pop(0)
    for name in (n for n in CASES if n.startswith(case)):
        done = run("bench.instructions", "--child", name, 0)
        assert done.returncode == 0 and int(done.stdout) == 0, done.stderr
    done = run("bench.instructions", "--child", name, 1)
    assert int(done.stdout) > 100


def test_unknown_cases_are_named():
    done = run("bench.instructions", "pong")
    assert done.returncode == 2 and "pingpong-32" in done.stderr


def test_every_aim_is_measured(tmp_path):
    """A few of them for tiny counts; those without lwIP, too."""
    for some in ("in flight, 32", "connection", "offloads: no L"):
        done = run("bench.aims", "--quick", "--repeat", 1, "--only", some, "--output", tmp_path)
        assert done.returncode == 0, done.stderr
        rows = json.loads((tmp_path / "aims.json").read_text())
        assert rows and all(some in name and row["low"] == row["ns"] == row["high"] > 0 for name, row in rows.items())
    assert "offloads: no LRO" in (tmp_path / "aims.md").read_text()
    assert run("bench.aims", "--only", "nothing of that name").returncode == 2


def test_peers_at_tiny_work(tmp_path):
    """All that are installed; the table, and the reason for those that are not."""
    pytest.importorskip("matplotlib")
    done = run("bench.peers", "--seconds", 0.05, "--warm-up", 0.05, "--repeat", 2, "--connections", 2, "--only", "iip, Cython",
               "--only", "iip, Python, batches", "--only", "Linux, epoll in C", "--only", "Linux, asyncio", "--only", "lwIP",
               "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "peers.json").read_text())
    peers = {row["peer"] for row in found["rows"]} | set(found["absent"])
    assert {"iip, Cython", "Linux, asyncio", "lwIP"} <= peers and found["machine"]["processors"] >= 1
    for row in found["rows"]:
        assert 0 < row["low"] <= row["transactions_per_s"] <= row["high"] and row["runs"] == 2
    with open(tmp_path / "peers.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found["rows"])
    assert (tmp_path / "peers.md").read_text().startswith("| stack |") and (tmp_path / "peers.png").stat().st_size > 1000


def test_a_peer_that_is_absent_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("bench.peers", "--only", "lwIP", "--output", tmp_path)
    assert done.returncode == 1 and "lwIP: left out, no C compiler" in done.stderr


def test_the_tunnel_case_at_tiny_work(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("bench.peers.tunnel", "--repeat", 1, "--bytes", 1e6, "--exchanges", 20, "--connections", 5, "--requests", 100,
               "--only", "iip, tunnel", "--only", "Linux over loopback, asyncio", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "tunnel.json").read_text())
    assert found["absent"] == {}
    assert len(found["rows"]) == 4 * (2 + 1)
    assert all(0 < row["low"] <= row["rate"] <= row["high"] and row["runs"] == 1 for row in found["rows"])
    assert (tmp_path / "tunnel.md").read_text().startswith("| stack |")
    assert (tmp_path / "tunnel.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["af_packet", "dpdk"])
def test_drivers_beside_c(netns, tmp_path, kind):  # noqa: F811
    done = run("bench.drivers", "--only", kind, "--size", 60, "--seconds", 0.2, "--repeat", 1,
               "--output", tmp_path / "drivers.json")
    if kind == "dpdk" and "IIP_DPDK=1" in done.stderr:
        pytest.skip("built without DPDK (IIP_DPDK=1)")
    assert done.returncode == 0, done.stderr
    row, = json.loads((tmp_path / "drivers.json").read_text())["rows"]
    assert row["iip"]["rate"]["median"] > 0 and row["C"]["rate"]["median"] > 0


def test_servers_beside_the_usual_ones(netns, tmp_path):  # noqa: F811
    done = run("bench.servers", "--only", "iip, af_packet", "--only", "usual", "--queues", 1, "--seconds", 0.2, "--repeat", 1,
               "--connections", 4, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "servers.json").read_text())
    assert len(found["rows"]) + len(found["absent"]) == 4
    assert all(row["rate"] > 0 and row["median_us"] <= row["p99_us"] for row in found["rows"])
    table = (tmp_path / "servers.md").read_text()
    assert "| cache | iip, af_packet | 1 |" in table and all(f"{name}: left out" in table for name in found["absent"])


def test_servers_that_are_absent_are_said_to_be(netns, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PATH", "/nowhere")
    done = run("bench.servers", "--output", tmp_path)
    assert done.returncode == 1 and "http, nginx: left out, no wrk: apt install wrk" in done.stderr
