"""`iip serve`, `iip get` and `iip ping` against the real kernel, through TAP and TUN, IPv4 and IPv6."""
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from iip.drivers.ethtool import set_tx_checksum
from tests.drivers import veth

pytestmark = pytest.mark.interop

OURS, OURS6, HOST, HOST6 = "10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1"
DEVICE = ["--address", f"{OURS}/24", "--address", f"{OURS6}/64", "--host-address", f"{HOST}/24", "--host-address",
          f"{HOST6}/64"]
IIP = [sys.executable, "-m", "iip.cli.main"]
BOTH = pytest.mark.parametrize("address", [OURS, OURS6])
BIG = random.Random(1).randbytes(20_000_000)


class Server:
    def __init__(self, process):
        self.process = process
        self.result = None

    def statistics(self):
        self.process.send_signal(signal.SIGUSR1)
        line = self.process.stderr.readline()
        assert line.startswith("{"), line + self.process.stderr.read()
        return json.loads(line)

    def stop(self, how=signal.SIGTERM):
        if self.result is None:
            self.process.send_signal(how)
            out, err = self.process.communicate(timeout=20)
            assert self.process.returncode == 0, err
            self.result = json.loads(out)
            assert self.result["packets_in_use"] == 0
        return self.result


@contextlib.contextmanager
def serving(device, root, *options):
    command = [*IIP, "serve", f"--{device}", "iipt0", *DEVICE, "--echo", "7", "--discard", "9", "--chargen", "19",
               "--http", "80", "--root", str(root), "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            end = time.monotonic() + 20
            for address in (OURS, OURS6):
                while True:
                    assert process.poll() is None, process.communicate()
                    try:
                        socket.create_connection((address, 7), timeout=3).close()
                        break
                    except OSError:
                        assert time.monotonic() < end, "the server does not answer"
                        time.sleep(0.05)
            server = Server(process)
            yield server
            server.stop()
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "big.bin").write_bytes(BIG)
    return tmp_path


@pytest.fixture(params=["tap", "tun"])
def server(request, netns, site):
    with serving(request.param, site) as running:
        yield running


def fetch(address, path, **headers):
    connection = http.client.HTTPConnection(address, 80, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def exchange(address, port, data):
    """Send `data` and FIN, and read until the peer's FIN."""
    with socket.create_connection((address, port), timeout=30) as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=send)
        thread.start()
        got = bytearray()
        while piece := s.recv(1 << 16):
            got += piece
        thread.join()
        return bytes(got)


@BOTH
@pytest.mark.parametrize("size", [56, 8000])
def test_ping(server, netns, address, size):
    if shutil.which("ping") is None:
        pytest.skip("ping is not installed")
    shown = netns.run("ping", "-c", 3, "-i", 0.2, "-s", size, "-W", 2, address).stdout
    assert "3 received" in shown and "0% packet loss" in shown


@BOTH
def test_http_of_a_big_file(server, address):
    status, body = fetch(address, "/big.bin")
    assert status == 200 and hashlib.sha256(body).digest() == hashlib.sha256(BIG).digest()


@BOTH
def test_keep_alive_and_ranges(server, address):
    connection = http.client.HTTPConnection(address, 80, timeout=20)
    for spread, expected in (("bytes=2-5", b"2345"), ("bytes=-3", b"789"), ("bytes=8-", b"89")):
        connection.request("GET", "/a.txt", headers={"Range": spread})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (206, expected)
    connection.request("HEAD", "/big.bin")
    answer = connection.getresponse()
    assert (answer.getheader("Content-Length"), answer.read()) == (str(len(BIG)), b"")
    connection.close()
    assert server.stop()["counters"]["tcp_established"] == 3


def test_curl(server, netns, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    netns.run("curl", "-sf", "--max-time", 30, "-o", tmp_path / "got", f"http://{OURS}/big.bin")
    assert (tmp_path / "got").read_bytes() == BIG


def test_two_hundred_at_once(server):
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda i: fetch((OURS, OURS6)[i % 2], "/a.txt"), range(200)))
    assert answers == [(200, b"0123456789")] * 200


@BOTH
def test_echo(server, address):
    assert exchange(address, 7, BIG[:5_000_000]) == BIG[:5_000_000]


@BOTH
def test_discard(server, address):
    assert exchange(address, 9, BIG) == b""


def test_chargen(server):
    with socket.create_connection((OURS, 19), timeout=20) as s:
        data = b""
        while len(data) < 5_000_000:
            data += s.recv(1 << 20)
    lines = data.split(b"\r\n")
    assert lines[0] == bytes(range(32, 104)) and lines[1] == bytes(range(33, 105))
    assert all(len(line) == 72 for line in lines[:-1])


def test_udp_echo(server):
    for family, address in ((socket.AF_INET, OURS), (socket.AF_INET6, OURS6)):
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(5)
            for data in (b"x", b"y" * 1400, b"z" * 6000):
                s.sendto(data, (address, 7))
                assert s.recv(10_000) == data


def test_a_closed_port_refuses(server):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((OURS, 81), timeout=5)


def test_a_client_killed_in_mid_transfer_leaves_nothing(server):
    client = subprocess.Popen([sys.executable, "-c", "import socket,time\n"
                               f"s = socket.create_connection(('{OURS}', 80))\n"
                               "s.sendall(b'GET /big.bin HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
                               "print(len(s.recv(1000)), flush=True)\ntime.sleep(60)"], stdout=subprocess.PIPE)
    with client:
        assert int(client.stdout.readline()) > 0
        assert server.statistics()["connections_open"] >= 1
        client.kill()
    end = time.monotonic() + 10
    while server.statistics()["connections_open"]:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_server_stopped_in_mid_transfer_says_so(server):
    with socket.create_connection((OURS, 19), timeout=10) as s:
        assert s.recv(1000)
        assert server.stop(signal.SIGINT)["connections_open"] >= 1
        s.settimeout(10)
        with pytest.raises(ConnectionResetError):
            while s.recv(1 << 20):
                pass


@pytest.mark.parametrize("device", ["tap", "tun"])
def test_an_impaired_wire_alters_nothing(netns, site, device):
    (site / "some.bin").write_bytes(BIG[:400_000])
    wire = ["--delay", "5", "--loss", "0.02", "--duplicate", "0.01", "--reorder", "0.02", "--corrupt", "0.01"]
    with serving(device, site, *wire) as server:
        for address in (OURS, OURS6):
            assert fetch(address, "/some.bin") == (200, BIG[:400_000])
        assert exchange(OURS, 7, BIG[:200_000]) == BIG[:200_000]
        counters = server.stop()["counters"]
    assert counters["tcp_retransmits"] > 0 and counters["tcp_bad_checksum"] > 0


class _Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def kernel_web_server(root):
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6
        daemon_threads = True

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    web = Server(("::", 8000), lambda *a: _Files(*a, directory=str(root)))
    thread = threading.Thread(target=web.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


@pytest.mark.parametrize("device", ["tap", "tun"])
@pytest.mark.parametrize("host", [HOST, f"[{HOST6}]"])
def test_get(netns, site, device, host):
    with kernel_web_server(site):
        done = netns.run(*IIP, "get", f"http://{host}:8000/big.bin", f"--{device}", "iipg0", *DEVICE, "--json")
    found = json.loads(done.stdout)
    assert found["status"] == 200 and found["bytes"] == len(BIG) and found["complete"]
    assert found["sha256"] == hashlib.sha256(BIG).hexdigest()


def test_get_writes_a_file_and_reports_failures(netns, site, tmp_path):
    with kernel_web_server(site):
        netns.run(*IIP, "get", f"http://{HOST}:8000/a.txt", "--tun", "iipg0", *DEVICE, "-o", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"0123456789"
        missing = netns.run(*IIP, "get", f"http://{HOST}:8000/nothing", "--tun", "iipg0", *DEVICE, check=False)
    assert missing.returncode == 1 and "status 404" in missing.stderr
    refused = netns.run(*IIP, "get", f"http://{HOST}:8001/", "--tun", "iipg0", *DEVICE, check=False)
    assert refused.returncode == 1 and "refused" in refused.stderr
    silent = netns.run(*IIP, "get", "http://10.9.0.77/", "--tun", "iipg0", *DEVICE, "--timeout", "0.5", check=False)
    assert silent.returncode == 1 and "0.5 seconds" in silent.stderr


@pytest.mark.parametrize("device", ["tap", "tun"])
@pytest.mark.parametrize("host", [HOST, HOST6])
def test_ping_the_kernel(netns, device, host):
    done = netns.run(*IIP, "ping", host, f"--{device}", "iipp0", *DEVICE, "-c", 3, "-i", 0.05, "-s", 2000, "--json")
    found = json.loads(done.stdout)
    assert (found["transmitted"], found["received"], found["loss"]) == (3, 3, 0.0)
    assert 0 < found["rtt_ms"]["min"] <= found["rtt_ms"]["avg"] <= found["rtt_ms"]["max"]


@pytest.mark.parametrize("driver", ["af_packet", "af_xdp"])
def test_ping_through_a_device_of_the_kernel(netns, driver):
    veth.plug(netns, f"{HOST}/24")
    set_tx_checksum(veth.KERNEL, False)
    done = netns.run(*IIP, "ping", HOST, "--driver", driver, "--device", veth.OURS, "--address", f"{OURS}/24", "-c", 3, "-i", 0.05,
                     "--json")
    assert json.loads(done.stdout)["received"] == 3


def test_ping_without_an_answer(netns):
    done = netns.run(*IIP, "ping", "10.9.0.77", "--tap", "iipp0", *DEVICE, "-c", 1, "-W", 0.3, "--json", check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["received"] == 0


@pytest.mark.parametrize("arguments, code, words", [
    (["serve", "--tun", "iipe0", *DEVICE], 2, "nothing to serve"),
    (["serve", *DEVICE, "--echo", "7"], 2, "--tap NAME, --tun NAME, or"),
    (["serve", "--tun", "iipe0", *DEVICE, "--echo", "7", "--discard", "7"], 2, "port 7"),
    (["serve", "--tun", "iipe0", *DEVICE, "--http", "80", "--root", "/no/such/place"], 2, "not a directory"),
    (["serve", "--tun", "iipe0", "--address", "10.0.0.300", "--echo", "7"], 2, "addresses"),
    (["serve", "--tun", "iipe0", "--address", "10.0.0.2/24", "--address", "10.0.0.2/24", "--echo", "7"], 2, "twice"),
    (["serve", "--tun", "lo", *DEVICE, "--echo", "7"], 1, "'lo' exists and is not of mode tun"),
    (["serve", "--driver", "af_packet", *DEVICE, "--echo", "7"], 2, "--driver KIND --device NAME"),
    (["serve", "--driver", "af_xdp", "--device", "lo", *DEVICE, "--echo", "7"], 2, "--host-address is for TAP and TUN"),
    (["get", "https://10.9.0.1/", "--tun", "iipe0", *DEVICE], 2, "http://"),
    (["ping", "10.9.0.1", "--tun", "iipe0", "--address", "10.9.0.2/24", "--gateway", "x"], 2, "--gateway x"),
])
def test_mistakes_are_explained(netns, arguments, code, words):
    done = netns.run(*IIP, *arguments, check=False)
    assert done.returncode == code and words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_the_example(netns):
    root = os.path.join(os.path.dirname(__file__), "..", "..")
    example = os.path.join(root, "examples", "echo.py")
    with netns.start(sys.executable, example, env={**os.environ, "PYTHONPATH": root}) as process:
        try:
            end = time.monotonic() + 15
            while True:
                try:
                    socket.create_connection(("10.0.0.2", 7), timeout=3).close()
                    break
                except OSError:
                    assert time.monotonic() < end
                    time.sleep(0.1)
            assert exchange("10.0.0.2", 7, BIG[:3_000_000]) == BIG[:3_000_000]
        finally:
            process.kill()


@pytest.mark.parametrize("model", ["merge", "split"])
def test_servers_in_python_in_a_thread_of_their_own(netns, site, model):
    with serving("tap", site, "--model", model, "--idle", "sleep") as server:
        assert fetch(OURS, "/big.bin") == (200, BIG)
        assert fetch(OURS6, "/a.txt") == (200, b"0123456789")
        data = random.Random(2).randbytes(200_000)
        assert exchange(OURS, 7, data) == data
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(5)
            s.sendto(b"datagram", (OURS, 7))
            assert s.recv(100) == b"datagram"
        assert server.statistics()["connections_open"] >= 0
