"""`iip pingpong` and `iip bulk`: what they print, what they find, what they refuse."""
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from iip.cli.app import cli


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done


def result(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


VARIANTS = [(), ("--ipv6",), ("--ethernet",), ("--ipv6", "--ethernet"), ("--no-offload",), ("--copy",),
            ("--copy", "--no-offload", "--ipv6"), ("--handler", "python"), ("--mtu", 9000)]


BATCH = ("--handler", "batch")


@pytest.mark.parametrize("options", [
    *VARIANTS, ("--size", 5000), ("--size", 3, "--connections", 1), ("--connections", 300), BATCH, (*BATCH, "--size", 5000),
    (*BATCH, "--connections", 300, "--ipv6", "--copy")])
def test_pingpong(options):
    found = result("pingpong", "--seconds", 0.1, *options)
    assert found["transactions"] > 0 and found["packets_in_use"] == 0
    assert found["transactions_per_s"] == pytest.approx(found["transactions"] / found["seconds"])
    assert found["ns_per_transaction"] == pytest.approx(found["seconds"] * 1e9 / found["transactions"])
    latency = found["latency_us"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"]
    client, server = found["counters"]["client"], found["counters"]["server"]
    assert client["tcp_established"] == server["tcp_established"] == client["tcp_closed"] == found["connections"]
    assert "tcp_retransmits" not in client and "tcp_retransmits" not in server


@pytest.mark.parametrize("handler", ["cython", "python", "batch"])
def test_idle_connections(handler):
    found = result("pingpong", "--seconds", 0.05, "--connections", 3, "--idle", 600, "--handler", handler)
    assert found["transactions"] > 0 and found["packets_in_use"] == 0
    for counters in found["counters"].values():
        assert counters["tcp_established"] == counters["tcp_closed"] == 603


def test_more_connections_than_one_port_of_the_server_takes(monkeypatch):
    """And cells that are as small as the messages."""
    monkeypatch.setattr("iip.cli.pair.PER_PORT", 300)
    monkeypatch.setattr("iip.cli.pingpong.MANY", 100)
    found = result("pingpong", "--seconds", 0.05, "--connections", 1000, "--size", 200)
    assert found["transactions"] > 1000 and found["packets_in_use"] == 0
    assert found["counters"]["server"]["tcp_established"] == 1000


def test_offered_load():
    """Requests are due at regular times, so latency grows when they cannot be sent; no connection is left at the end."""
    found = result("pingpong", "--seconds", 0.2, "--connections", 4, "--rate", 5000)
    assert 0.8 * 5000 < found["transactions_per_s"] < 1.2 * 5000
    assert found["packets_in_use"] == 0 and found["counters"]["client"]["tcp_closed"] == 4
    too_much = result("pingpong", "--seconds", 0.2, "--connections", 1, "--rate", 1e9)
    assert too_much["latency_us"]["p99"] > 50_000 and too_much["packets_in_use"] == 0      # late by a part of the 0.2 s


def test_small_writes():
    found = result("bulk", "--seconds", 0.05, "--write", 100, "--verify")
    assert found["bytes"] > 10_000 and found["wrong_bytes"] == 0 and found["write"] == 100


@pytest.mark.parametrize("options", [
    *VARIANTS, ("--no-tso",), ("--no-lro",), ("--no-sg",), ("--no-tx-checksum",), ("--no-rx-checksum",), ("--no-zero-copy",),
    ("--no-tso", "--gso", "--gro", "--no-rx-checksum"), ("--copy", "--no-lro", "--ethernet"), ("--connections", 5)])
def test_bulk(options):
    found = result("bulk", "--seconds", 0.1, "--verify", *options)
    assert found["bytes"] > 100_000 and found["wrong_bytes"] == 0 and found["packets_in_use"] == 0
    assert found["sent_in_all"] == found["received_in_all"]
    assert found["retransmissions"] == 0
    assert found["gbit_per_s"] == pytest.approx(found["bytes"] * 8 / found["seconds"] / 1e9)


def test_tables_for_people():
    shown = run("pingpong", "--seconds", 0.05).stdout
    assert "transactions per s" in shown and "ns per transaction" in shown and "latency us" in shown
    assert "gbit per s" in run("bulk", "--seconds", 0.05).stdout


@pytest.mark.parametrize("arguments, words", [
    (("pingpong", "--size", 0), "--size"),
    (("pingpong", "--connections", 0), "--connections"),
    (("pingpong", "--seconds", 0), "--seconds"),
    (("bulk", "--handler", "rust"), "--handler"),
    (("pingpong", "--rate", 100, "--handler", "python"), "--rate"),
    (("pingpong", "--rate", 0), "--rate"),
    (("bulk", "--ipv6", "--mtu", 1000), "1280"),
])
def test_wrong_options_are_named(arguments, words):
    assert words in run(*arguments, code=2).stderr


def test_without_the_libraries_it_says_what_to_install():
    program = ("import sys; sys.modules['click'] = None\n"
               "import importlib.util as u; real = u.find_spec\n"
               "u.find_spec = lambda n, *a: None if n in ('click', 'rich') else real(n, *a)\n"
               "from iip.cli.main import main; sys.exit(main())")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and "pip install 'iip[cli]'" in done.stderr


def test_interrupt_ends_it():
    # a shell has what it starts in the background ignore interrupts, and so would we
    start = ("import signal, sys; signal.signal(2, signal.default_int_handler); import iip.cli.pingpong; "
             "from iip.cli.main import main; print('imported', file=sys.stderr, flush=True); main()")
    program = [sys.executable, "-c", start, "pingpong", "--seconds", "60"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline() == b"imported\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(2)
        assert process.wait(5) != 0
        assert b"Traceback" not in process.stderr.read()


THREADED = [("--threads", 2), ("--threads", 2, "--model", "merge"), ("--model", "split"),
            ("--model", "split", "--handler", "python"),
            ("--model", "split", "--rate", 5000), ("--threads", 2, "--copy", "--ipv6", "--size", 3000)]


@pytest.mark.parametrize("options", THREADED)
def test_pingpong_in_threads(options):
    found = result("pingpong", "--seconds", 0.2, "--connections", 6, *options)
    assert found["transactions"] == sum(found["per_thread"]) and min(found["per_thread"]) > 0 and found["packets_in_use"] == 0
    assert found["latency_us"]["p50"] <= found["latency_us"]["p99"]
    if found["rate"]:
        assert found["transactions_per_s"] < 1.5 * found["rate"]
    for pair in found["counters"]:
        assert pair["client"]["tcp_established"] == pair["server"]["tcp_established"] == 6 // found["threads"]


@pytest.mark.parametrize(("options", "says"), [
    (("--threads", 8), "--connections"), (("--model", "split", "--handler", "batch"), "--handler"),
    (("--threads", 2, "--idle", 5), "--idle")])
def test_what_threads_cannot_do(options, says):
    assert says.strip("-") in run("pingpong", "--connections", 6, *options, code=2).output
