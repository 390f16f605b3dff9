"""`--tap`: both engines of the benchmarks with the kernel in between, and each offload switched off."""
import csv
import json
import os

import pytest
from click.testing import CliRunner

from iip.cli import figures
from iip.cli.app import cli

pytestmark = [pytest.mark.interop,
              pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="needs root and /dev/net/tun")]

ALL = {"sg", "tso4", "tso6", "lro", "tx_l4_csum", "rx_l4_csum"}
LARGE = {"sg", "tso4", "tx_l4_csum"}      # what it takes to send large frames


def result(*arguments):
    done = CliRunner().invoke(cli, [*map(str, arguments), "--tap", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_transactions():
    before = os.readlink("/proc/thread-self/ns/net")
    found = result("pingpong", "--connections", 40, "--seconds", 0.2)
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert found["transactions"] > 0 and found["packets_in_use"] == 0 and found["latency_us"]["p50"] > 0
    for counters in found["counters"].values():
        assert counters["tcp_established"] == counters["tcp_closed"] == 40
        assert "tcp_rto_expired" not in counters


@pytest.mark.parametrize("options,missing", [
    ((), set()), (("--ipv6",), set()), (("--no-offload",), ALL),
    (("--no-sg",), {"sg"}), (("--no-tso",), {"tso4", "tso6"}), (("--no-lro",), {"lro"}),
    (("--no-tx-checksum",), {"tx_l4_csum", "tso4", "tso6"}), (("--no-rx-checksum",), {"rx_l4_csum", "lro"})],
    ids=lambda o: " ".join(o) if isinstance(o, tuple) else "")
def test_bulk(options, missing):
    """Every byte is right, and frames are as large as the devices allow."""
    found = result("bulk", "--seconds", 0.2, "--verify", *options)
    assert found["wrong_bytes"] == 0 and found["packets_in_use"] == 0
    assert set(found["offloads"]) == ALL - missing
    sent, received = (found["counters"][name] for name in ("client", "server"))
    assert (sent["tx_bytes"] > 5000 * sent["tx_packets"]) == (not missing & LARGE)
    assert (received["rx_bytes"] > 5000 * received["rx_packets"]) == (
        not missing & (LARGE | {"lro"}))


def test_figures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(figures, "CONNECTIONS", (2,))
    monkeypatch.setattr(figures, "LOADS", (0.2,))
    monkeypatch.setattr(figures, "WRITES", (10_000,))
    done = CliRunner().invoke(cli, ["figures", "--tap", "--output", str(tmp_path), "--seconds", "0.02"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["figure"], r["series"]) for r in rows] == (
        [(n, name) for n in ("1a", "1b") for name in figures.PINGPONG_TAP] + [("2", name) for name in figures.BULK])
