"""`iip load` on a memory link and against the kernel; `iip serve --memcached` by a client of memcached's."""
import contextlib
import json
import random
import signal
import socketserver
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from iip.apps.load import LoadClient
from iip.cli.app import cli

IIP = [sys.executable, "-m", "iip.cli.main"]
DEVICE = ["--tap", "iipt0", "--address", "10.9.0.2/24", "--address", "fd09::2/64", "--host-address", "10.9.0.1/24",
          "--host-address", "fd09::1/64"]
pytest.importorskip("hdrh")


def load(*options, code=0):
    done = CliRunner().invoke(cli, ["load", "--seconds", "0.2", "--warm-up", "0.02", *map(str, options), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if code == 0 else done.output


@pytest.mark.parametrize("options", [
    (), ("--depth", 8, "--size", 3000), ("--connect-per-request",), ("--kind", "http"), ("--kind", "http", "--connect-per-request"),
    ("--kind", "http", "--depth", 3, "--connections", 2)])
def test_closed_loop(options):
    found = load("--connections", 8, *options)
    assert found["responses"] > 20 and not any(found["errors"].values()) and found["bad_responses"] == 0
    latency = list(found["latency_us"].values())
    assert latency[0] > 0 and latency == sorted(latency)
    if "--connect-per-request" in options:
        assert abs(found["connections_opened"] - found["responses"]) <= 8


def test_open_loop_counts_from_when_a_request_is_due(tmp_path):
    """A server that cannot follow: the latency is that of who would have waited, not of the requests that were sent."""
    report = tmp_path / "report.json"
    found = load("--kind", "http", "--rate", 50_000, "--connections", 4, "--report", report)
    assert found["responses_per_s"] < 40_000
    assert found["latency_us"]["p50"] > 20_000
    distribution = json.loads(report.read_text())["distribution"]
    assert [row["latency_us"] for row in distribution] == sorted(row["latency_us"] for row in distribution)
    slow = load("--rate", 2000, "--connections", 4)
    assert 0 < slow["responses"] <= 2000 * (slow["seconds"] + 0.02) + 4      # never more than were due, however slow the machine


def test_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    load("--plot", tmp_path / "latency.png")
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("options", "says"), [
    (("--target", "nowhere"), "--target"), (("--target", "10.0.0.1:80"), "--address"), (("--clients", 3), "--clients"),
    (("--depth", 2, "--connect-per-request"), "depth"), (("--kind", "http", "--size", 5), "--size")])
def test_wrong_options(options, says):
    assert says in load(*options, code=2)


def test_errors_are_named():
    client = LoadClient(b"x", connections=1, response=1)
    assert client.forget()[1]["errors_refused"] == 0


class _Echo(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.peers.add(self.client_address[0])
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.mark.interop
def test_the_kernel_under_load_from_several_addresses(netns):
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        peers: set = set()        # noqa: RUF012
    # the address is there once the device is
    process = subprocess.Popen([*IIP, "load", *DEVICE, "--target", "10.9.0.1:7777", "--connections", "9", "--clients", "3",
                                "--seconds", "0.5", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with Server(("0.0.0.0", 7777), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        out, err = process.communicate(timeout=30)
        server.shutdown()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["responses"] > 50 and not any(found["errors"].values())
    assert server.peers == {"10.9.0.2", "10.9.0.3", "10.9.0.4"}


@contextlib.contextmanager
def memcached(*options):
    command = [*IIP, "serve", *DEVICE, "--memcached", "11211", "--memory", "4", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=20)
            assert process.returncode == 0, err
            process.result = json.loads(out)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.interop
@pytest.mark.parametrize("model", ["unified", "merge", "split"])
def test_memcached_by_a_real_client(netns, model):
    base = pytest.importorskip("pymemcache.client.base")
    value = random.Random(1).randbytes(300_000)
    with memcached("--model", model, "--idle", "sleep") as process:
        for host in ("10.9.0.2", "fd09::2"):
            end = time.monotonic() + 20
            while True:
                try:
                    client = base.Client((host, 11211), timeout=10, connect_timeout=2)
                    client.version()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < end
                    time.sleep(0.05)
            assert client.set("a", b"1", noreply=False) and client.get("a") == b"1" and client.incr("a", 5) == 6
            assert client.add("a", b"2", noreply=False) is False and client.append("a", b"!", noreply=False)
            got, cas = client.gets("a")
            assert got == b"6!" and client.cas("a", b"7", cas) and client.cas("a", b"8", cas) is False
            assert client.set("big", value, noreply=False) and client.get("big") == value
            client.set_many({f"k{i}": b"%d" % i for i in range(200)})
            assert client.get_many([f"k{i}" for i in range(200)]) == {f"k{i}": b"%d" % i for i in range(200)}
            for i in range(20):       # 6 MB into 4
                assert client.set(f"big{i}", value, noreply=False)
            assert client.get("big0") is None and client.get("big19") == value and client.get("k0") is None
            stats = client.stats()
            assert stats[b"bytes"] <= stats[b"limit_maxbytes"] == 4 << 20 and stats[b"evictions"] > 5
            assert client.delete("big19", noreply=False) and client.flush_all(noreply=False) and client.stats()[b"curr_items"] == 0
            client.quit()
    assert process.result["packets_in_use"] == 0 and process.result["cache"][0]["total_connections"] >= 2


@pytest.mark.interop
def test_two_queues_of_a_device(netns):
    """Two engines share a TAP device's queues; the kernel spreads connections over them."""
    base = pytest.importorskip("pymemcache.client.base")
    with memcached("--queues", "2") as process:
        end = time.monotonic() + 20
        clients = []
        while len(clients) < 12:
            try:
                clients.append(base.Client(("10.9.0.2", 11211), timeout=10, connect_timeout=2))
                clients[-1].version()
            except OSError:
                clients.pop()
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.05)
        for i, client in enumerate(clients):
            assert client.set(f"k{i}", b"v" * 3000, noreply=False) and client.get(f"k{i}") == b"v" * 3000
        for client in clients:
            client.close()
    caches = process.result["cache"]
    assert sum(c["curr_items"] for c in caches) == 12 and min(c["total_connections"] for c in caches) > 0
