"""The examples against real peers, in network namespaces; what they carry is compared."""
import base64
import contextlib
import hashlib
import http.server
import importlib.util
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
from pathlib import Path

import pytest

from tests.harness.netns import namespace, netns  # noqa: F401

pytestmark = pytest.mark.interop

ROOT = Path(__file__).parents[2]
DATA = random.Random(8).randbytes(2_000_000)
DEVICE = ("tap0", "10.0.0.2/24", "10.0.0.1/24")


def need(*programs, modules=()):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the library {module}")


def example(name, *arguments):
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *map(str, arguments)]


@contextlib.contextmanager
def running(command, **settings):
    """A process that is told to end, and must then do so in order."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.out, process.err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.out, process.err = process.communicate()
            raise AssertionError(process.err) from None


def listens(host, port, process=None):
    """Wait until somebody does."""
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, port), timeout=3).close()
            return
        except OSError:
            assert time.monotonic() < end
            assert process is None or process.poll() is None, process.communicate()
            time.sleep(0.05)


def curl(*arguments):
    done = subprocess.run(["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "30", *arguments],
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Files(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *arguments):
        """Quiet."""


@contextlib.contextmanager
def web_server(address, handler=Files):
    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    server = Server(address, handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_api_by_uvicorn(netns, tmp_path):  # noqa: F811
    need("curl", modules=["uvicorn"])
    with running(example("http_api", *DEVICE)) as process:
        listens("10.0.0.2", 80, process)
        url = "http://10.0.0.2/items"
        large = {"name": "x" * 300_000}
        (tmp_path / "item").write_text(json.dumps(large))
        assert json.loads(curl("--json", '{"name": "one"}', url)) == {"id": 1}
        assert json.loads(curl("--json", f"@{tmp_path / 'item'}", url)) == {"id": 2}
        assert json.loads(curl(f"{url}/2")) == large
        assert curl(f"{url}/1", f"{url}/1") == b'{"name": "one"}' * 2      # on one connection
        peer = json.loads(curl("http://10.0.0.2/peer"))
        assert (peer["client"][0], peer["server"]) == ("10.0.0.1", ["10.0.0.2", 80])
    assert process.returncode in (0, -signal.SIGTERM), process.err


def test_requests_and_httpx(netns):  # noqa: F811
    need(modules=["requests", "httpx"])
    netns.run("ip", "addr", "add", "10.1.1.1/32", "dev", "lo")
    with web_server(("10.1.1.1", 8000)):
        done = subprocess.run(example("http_clients", "tap0", "10.1.1.2/24", "10.1.1.3/24", "http://10.1.1.1:8000/"),
                              capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    line = f"200 {len(DATA)} {hashlib.sha256(DATA).hexdigest()}"
    assert done.stdout.splitlines() == [f"requests {line}"] * 2 + [f"httpx {line}"] + [f"httpx.AsyncClient {line}"] * 5


def test_redis(netns, tmp_path):  # noqa: F811
    need("redis-server", modules=["redis"])
    netns.run("ip", "addr", "add", "10.1.1.1/32", "dev", "lo")
    with running(["redis-server", "--bind", "10.1.1.1", "--port", "6379", "--protected-mode", "no", "--save", "", "--dir",
                  str(tmp_path)]) as server:
        listens("10.1.1.1", 6379, server)
        done = subprocess.run(example("redis_client", "tap0", "10.1.1.2/24", "10.1.1.3/24", "10.1.1.1", "6379"),
                              capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["sum 300 list 1000", "news hello", "sum 300"]


def test_an_intercepting_proxy(tmp_path):
    """Two namespaces: in one the server, in the other client and proxy."""
    need("curl", "nsenter")
    (tmp_path / "data").write_bytes(DATA)
    with namespace(), running([sys.executable, "-m", "http.server", "--directory", str(tmp_path), "80"]) as server, \
            namespace() as inner:
        def outside(*command):
            return inner.run("nsenter", "-t", server.pid, "-n", *command)

        inner.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", server.pid)
        outside("ip", "addr", "add", "203.0.113.1/24", "dev", "v1")
        outside("ip", "link", "set", "v1", "up")
        inner.run("ip", "addr", "add", "203.0.113.9/24", "dev", "v0")
        inner.run("ip", "link", "set", "v0", "up")
        listens("203.0.113.1", 80)
        with running(example("intercept", "tun0", "203.0.113.0/24")) as proxy:
            assert "intercepting" in proxy.stderr.readline()
            assert curl("http://203.0.113.1/data") == DATA
            with pytest.raises(AssertionError):
                curl("http://203.0.113.1:81/")
    seen = [json.loads(line) for line in proxy.out.splitlines()]
    assert [(line["server"], line["request"]) for line in seen] == [(["203.0.113.1", 80], "GET /data HTTP/1.1"),
                                                                   (["203.0.113.1", 81], "")]
    assert seen[0]["received"] > len(DATA)
    assert seen[0]["error"] is None
    assert "Errno 111" in seen[1]["error"]


def configure_wireguard(name, **settings):
    """Through the socket that wireguard-go makes: https://www.wireguard.com/xplatform/."""
    path, end = f"/var/run/wireguard/{name}.sock", time.monotonic() + 10
    while not Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(path)
        control.sendall("".join(["set=1\n", *(f"{key}={value}\n" for key, value in settings.items()), "\n"]).encode())
        assert control.recv(100) == b"errno=0\n\n"


def test_a_wireguard_tunnel(netns):  # noqa: F811
    need("wireguard-go", modules=["cryptography"])
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    ours, theirs = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    name = "wgiip0"
    with running(["wireguard-go", "--foreground", name], env={**os.environ, "WG_PROCESS_FOREGROUND": "1"}):
        configure_wireguard(name, private_key=theirs.private_bytes_raw().hex(), listen_port=51820,
                            public_key=ours.public_key().public_bytes_raw().hex(), allowed_ip="10.7.0.2/32")
        netns.run("ip", "addr", "add", "10.7.0.1/24", "dev", name)
        netns.run("ip", "link", "set", name, "up")
        keys = [base64.b64encode(raw).decode() for raw in (ours.private_bytes_raw(), theirs.public_key().public_bytes_raw())]
        with web_server(("10.7.0.1", 80)):
            done = subprocess.run(example("wireguard", *keys, "127.0.0.1:51820", "10.7.0.2/24", "http://10.7.0.1/file"),
                                  capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"HTTP/1.1 200 OK {len(DATA)} {hashlib.sha256(DATA).hexdigest()}\n"
