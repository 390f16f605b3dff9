"""`iip nc`, `iip http` and `iip proxy` with curl, nc and servers of the kernel on the other side of a TAP or TUN device."""
import contextlib
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.examples.test_examples import DATA, Files, listens, running, web_server
from tests.harness.tls import contexts

pytestmark = pytest.mark.interop

OURS, OURS6, HOST, HOST6 = "10.9.0.2", "fd09::2", "10.9.0.1", "fd09::1"
DEVICE = ["--address", f"{OURS}/24", "--address", f"{OURS6}/64", "--host-address", f"{HOST}/24", "--host-address", f"{HOST6}/64"]


def iip(command, *arguments, device="tap"):
    return [sys.executable, "-m", "iip.cli.main", command, f"--{device}", "iipn0", *DEVICE, *arguments]


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


@pytest.fixture
def peer(netns):
    """The kernel's addresses exist before the device does, so that its servers can be started first."""
    netns.run("ip", "addr", "add", f"{HOST}/32", "dev", "lo")
    netns.run("ip", "-6", "addr", "add", f"{HOST6}/128", "dev", "lo", "nodad")
    return netns


def url(host, port, path=""):
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{path}"


# -- nc ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("device", "host"), [("tap", HOST6), ("tun", HOST)])
def test_nc_to_the_kernel(peer, device, host):
    """Our input ends when all has come: the kernel's nc that listens goes when its peer is done, whatever it has to send."""
    need("nc")
    with subprocess.Popen(["nc", "-l", "-N", host, "7"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as theirs:
        time.sleep(0.2)
        ours = subprocess.Popen(iip("nc", host, "7", device=device), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        got = []
        threads = [threading.Thread(target=lambda: got.append(theirs.communicate(DATA, timeout=30)[0])),
                   threading.Thread(target=lambda: (ours.stdin.write(DATA[::-1]), ours.stdin.flush()))]
        for thread in threads:
            thread.start()
        assert ours.stdout.read(len(DATA)) == DATA
        threads[1].join()
        assert ours.communicate(timeout=30) == (b"", None)
        threads[0].join()
    assert ours.returncode == 0
    assert got == [DATA[::-1]]


def test_the_kernels_nc_to_ours(peer):
    need("nc")
    with running_nc("-l", "7", stdin=DATA) as ours:       # on "::": IPv4, too
        listens_by_ping(OURS)
        theirs = subprocess.run(["nc", "-N", OURS, "7"], input=b"hello", capture_output=True, timeout=30, check=True)
    assert theirs.stdout == DATA
    assert ours.got == b"hello"


@contextlib.contextmanager
def running_nc(*arguments, stdin):
    process = subprocess.Popen(iip("nc", *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    thread = threading.Thread(target=lambda: setattr(process, "got", process.communicate(stdin, timeout=30)[0]))
    thread.start()
    try:
        yield process
    finally:
        thread.join()


def listens_by_ping(address):
    """Up, without using up the only connection that it accepts."""
    end = time.monotonic() + 20
    while subprocess.run(["ping", "-c1", "-W1", address], capture_output=True, check=False).returncode:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_nc_by_datagrams(peer):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind((HOST, 7))
        echo.settimeout(20)

        def answer():
            data, source = echo.recvfrom(2000)
            echo.sendto(data.upper(), source)

        thread = threading.Thread(target=answer)
        thread.start()
        done = subprocess.run(iip("nc", "-u", "-w", "0.5", HOST, "7"), input=b"hello", capture_output=True, timeout=30, check=True)
        thread.join()
    assert done.stdout == b"HELLO"


def test_nc_is_refused(peer):
    done = subprocess.run(iip("nc", HOST, "9"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                          check=False)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr


# -- http ----------------------------------------------------------------------------------------------------
def test_http(peer, tmp_path):
    host = HOST6
    with subprocess.Popen([sys.executable, "-m", "http.server", "--bind", host, "--directory", str(tmp_path), "8000"],
                          stderr=subprocess.DEVNULL) as server:
        (tmp_path / "directory").mkdir()
        (tmp_path / "directory" / "index.html").write_bytes(DATA)
        listens(host, 8000)
        done = subprocess.run(iip("http", "-L", url(host, 8000, "directory")), capture_output=True, timeout=30, check=True)
        assert done.stdout == DATA
        done = subprocess.run(iip("http", "--json", "-L", url(host, 8000, "directory/")), stdout=subprocess.PIPE, timeout=30,
                              check=True)
        answer = json.loads(done.stdout)
        assert (answer["status"], answer["sha256"]) == (200, hashlib.sha256(DATA).hexdigest())
        done = subprocess.run(iip("http", "-i", url(host, 8000, "none")), capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stderr.split(b"\n")[0]) == (1, b"HTTP/1.1 404 File not found")
        server.terminate()


class Posted(Files):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        answer = self.headers["X-Test"].encode() + hashlib.sha256(body).hexdigest().encode()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def test_https_and_post(peer, tmp_path):
    for_server, _ = contexts(tmp_path, HOST)
    (tmp_path / "data").write_bytes(DATA)
    with web_server((HOST, 443), Posted) as server:
        server.socket = for_server.wrap_socket(server.socket, server_side=True)
        trust = ("--cacert", str(tmp_path / "certificate.pem"))
        done = subprocess.run(iip("http", *trust, "-H", "X-Test: abc", "-d", f"@{tmp_path / 'data'}", f"https://{HOST}/"),
                              capture_output=True, timeout=30, check=True)
        assert done.stdout.decode() == "abc" + hashlib.sha256(DATA).hexdigest()
        done = subprocess.run(iip("http", f"https://{HOST}/"), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


# -- proxy ---------------------------------------------------------------------------------------------------
def curl(*arguments):
    return subprocess.run(["curl", "--silent", "--show-error", "--max-time", "30", *arguments], capture_output=True, check=False)


def test_curl_through_the_proxy(peer):
    need("curl")
    command = iip("proxy", "--listen", "127.0.0.1:1080", "--json")
    with web_server((HOST, 8000)), web_server((HOST6, 8000)), running(command) as proxy:
        listens("127.0.0.1", 1080, proxy)
        for host in (HOST, HOST6):
            for how in (["--socks5", "127.0.0.1:1080"], ["--socks5-hostname", "127.0.0.1:1080"], ["--proxy", "http://127.0.0.1:1080"],
                        ["--proxy", "http://127.0.0.1:1080", "--proxytunnel"]):
                done = curl(*how, url(host, 8000))
                assert done.stdout == DATA, done.stderr
        assert curl("--socks5", "127.0.0.1:1080", url(HOST, 9)).returncode == 97        # refused, says SOCKS
        assert b"502" in curl("--include", "--proxy", "http://127.0.0.1:1080", url(HOST, 9)).stdout
        nonsense = socket.create_connection(("127.0.0.1", 1080))
        nonsense.sendall(b"hello, who is there?\r\n\r\n")
        assert nonsense.recv(100).startswith(b"HTTP/1.1 400")
        nonsense.close()
        processes = [subprocess.Popen(["curl", "-sS", "--socks5", "127.0.0.1:1080", url(HOST, 8000)], stdout=subprocess.PIPE)
                     for _ in range(10)]
        assert all(process.communicate(timeout=30)[0] == DATA for process in processes)
        assert whole_transfers(proxy, 18)       # the last connection ends some time after its client has gone
    assert proxy.returncode == 0, proxy.err


def whole_transfers(proxy, count):
    """Read its lines until so many say that everything went through; False if that does not happen."""
    stop = threading.Timer(20, proxy.kill)
    stop.start()
    while count and (line := proxy.stdout.readline()):
        ended = json.loads(line)
        count -= ended["received"] > len(DATA) and ended["error"] is None
    stop.cancel()
    return count == 0


def test_the_proxy_ends_with_connections_open(peer):
    with web_server((HOST, 8000)), running(iip("proxy", "--listen", "127.0.0.1:1080")) as proxy:
        listens("127.0.0.1", 1080, proxy)
        client = socket.create_connection(("127.0.0.1", 1080))
        client.sendall(f"CONNECT {HOST}:8000 HTTP/1.1\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        proxy.send_signal(signal.SIGINT)
        proxy.wait(20)
        client.close()
    assert proxy.returncode == 0, proxy.err
    assert "Traceback" not in proxy.err
