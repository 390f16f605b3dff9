"""bench/goodput.py: the quick table in the simulator, and what it refuses."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.netns import netns  # noqa: F401

pytestmark = pytest.mark.packaging      # needs bench/, which a tree of tests alone does not have
SCRIPT = Path(__file__).parent.parent / "bench" / "goodput.py"


def run(*arguments, timeout=120):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, check=False)


def results(directory):
    return [json.loads(line) for line in (directory / "goodput.jsonl").read_text().splitlines()]


def test_the_quick_table(tmp_path):
    done = run("--quick", "--pairs", "sim", "--algorithms", "reno", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| algorithm | RTT") and len(lines) == 5
    rows = results(tmp_path)
    assert (tmp_path / "goodput.md").read_text() == done.stdout
    clean = next(row for row in rows if row["loss"] == row["reorder"] == 0)
    assert 90 < clean["mbit_per_s"] < 96 and clean["retransmits"] < 1000


def test_the_seed_repeats_it(tmp_path):
    tables = [run("--quick", "--pairs", "sim", "--algorithms", "reno", "--seed", 3, "--output", tmp_path / str(i)).stdout
              for i in range(2)]
    assert tables[0] == tables[1] != ""


def test_a_run_that_broke_off_goes_on(tmp_path):
    arguments = ("--quick", "--pairs", "sim", "--algorithms", "reno", "--output", tmp_path)
    first = run(*arguments)
    file = tmp_path / "goodput.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1][:20] + "\n")           # it broke off while it wrote
    again = run(*arguments)
    assert again.stdout == first.stdout
    assert again.stderr.count("measured before") == 1
    assert run(*arguments).stderr.count("measured before") == 3
    assert run(*arguments, "--fresh").stderr.count("measured before") == 0


def test_the_report(tmp_path):
    """A ratio for each path that both have, and who is fair."""
    path = {"algorithm": "bbr", "rtt_ms": 50.0, "queue_bdp": 1.0, "loss": 0.01, "reorder": 0.0, "retransmits": 7}
    rows = [{**path, "pair": "linux-linux", "flows": 1, "mbit_per_s": 90.0},
            {**path, "pair": "iip-linux", "flows": 1, "mbit_per_s": 81.0},
            {**path, "pair": "linux+iip", "flows": 2, "mbit_per_s": 95.0, "jain": 0.9, "share": 1.3}]
    (tmp_path / "goodput.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run([sys.executable, SCRIPT.with_name("goodput_report.py"), tmp_path], capture_output=True,
                          text=True, check=True)
    assert "| bbr | 50 | 1 | 1.0% | 0% | 90.0 (7) | 81.0 (7) | **0.90** |" in done.stdout
    assert "iip-linux: 0 of 1" in done.stdout
    assert "| bbr | 50 | 1 | 1.0% | 0% | 2 linux+iip | 0.90 | 1.30 | 95.0 |" in done.stdout


@pytest.mark.interop
def test_both_share_a_bottleneck(tmp_path, netns):  # noqa: F811
    done = run("--pairs", "linux-linux", "--algorithms", "reno", "--rtt", 0.01, "--loss", 0, "--reorder", 0, "--queue",
               1, "--flows", 2, "--seconds", 2, "--warm-up", 0.5, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    shared = results(tmp_path)[-1]
    assert shared["flows"] == len(shared["each"]) == 2 and 0.5 <= shared["jain"] <= 1 and min(shared["each"]) > 0


@pytest.mark.interop
def test_kernel_to_kernel(tmp_path, netns):  # noqa: F811
    done = run("--pairs", "linux-linux", "--algorithms", "reno", "--rtt", 0.01, "--loss", 0, "--reorder", 0, "--queue",
               1, "--flows", 0, "--seconds", 1, "--warm-up", 0.2, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path)
    assert len(rows) == 1 and 1 < rows[0]["mbit_per_s"] <= 96


@pytest.mark.parametrize("arguments, words", [
    (("--pairs", "mac-mac"), "mac-mac"), (("--algorithms", "vegas"), "vegas"), (("--warm-up", 30), "--warm-up"),
    (("--flows", 3), "--flows"),
])
def test_mistakes(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr
