"""Files over HTTP: iip serves curl, and fetches from a server on the kernel's side."""
import concurrent.futures
import hashlib
import http.client
import json
import os
import socket
import sys
import time

import pytest

from tests.interop.world import BIG, HTTP, device_options, iip_command, need, sha256

pytestmark = pytest.mark.interop


@pytest.mark.every_driver
def test_100_megabytes_to_curl(server, netns_module, way, files, tmp_path):
    need("curl")
    out = tmp_path / "out"
    netns_module.run("curl", "--silent", "--fail", "--max-time", 60, "-o", out, way.url("big"), timeout=70)
    assert out.stat().st_size == BIG
    assert sha256(out) == sha256(files / "big")
    out.unlink()


def test_200_curls_at_once(server, netns_module, way, tmp_path, files):
    need("curl")
    want = (files / "small").read_bytes()
    curls = [netns_module.start("curl", "--silent", "--fail", "--max-time", 30, "-o", tmp_path / str(i),
                                way.url("small")) for i in range(200)]
    codes = [curl.wait(40) for curl in curls]
    assert codes == [0] * 200
    assert [(tmp_path / str(i)).read_bytes() for i in range(200)] == [want] * 200


@pytest.mark.every_driver
def test_200_connections_open_at_once(server, way, files):
    """All of them stand before the first is served."""
    request = b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    want = (files / "small").read_bytes()
    socks = [socket.create_connection((way.iip, HTTP), timeout=10) for _ in range(200)]
    try:
        for sock in socks:
            sock.sendall(request)
        for sock in socks:
            answer = b""
            while block := sock.recv(1 << 16):
                answer += block
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ") and body == want
    finally:
        for sock in socks:
            sock.close()


def test_head_ranges_and_keep_alive_on_one_connection(server, way, files):
    want = (files / "medium").read_bytes()
    connection = http.client.HTTPConnection(way.iip, HTTP, timeout=10)
    try:
        connection.connect()
        port = connection.sock.getsockname()[1]

        def ask(method, path, **headers):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()

        response, body = ask("HEAD", "/medium")
        assert (response.status, response.length, body) == (200, 0, b"")
        assert response.getheader("Content-Length") == "1000000"
        assert ask("GET", "/medium")[1] == want
        response, body = ask("GET", "/medium", Range="bytes=500000-500999")
        assert response.status == 206 and body == want[500000:501000]
        assert response.getheader("Content-Range") == "bytes 500000-500999/1000000"
        response, body = ask("GET", "/medium", Range="bytes=-10")
        assert response.status == 206 and body == want[-10:]
        assert ask("GET", "/medium", Range="bytes=2000000-")[0].status == 416
        assert ask("GET", "/nothing")[0].status == 404
        assert ask("POST", "/medium")[0].status == 405
        assert ask("GET", "/small")[1] == (files / "small").read_bytes()
        assert connection.sock.getsockname()[1] == port
    finally:
        connection.close()


def test_pipelined_requests_are_answered_in_order(server, way, files):
    want = (files / "small").read_bytes()
    request = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((way.iip, HTTP), timeout=10) as sock:
        sock.sendall(request * 50 + last)
        answer = b""
        while block := sock.recv(1 << 16):
            answer += block
    assert answer.count(b"HTTP/1.1 200 ") == 51 and answer.count(want) == 51


@pytest.mark.every_driver
def test_many_transfers_at_once_share_the_way(server, way, files):
    """20 of 1 MB, each compared."""
    want = hashlib.sha256((files / "medium").read_bytes()).digest()

    def fetch(_):
        connection = http.client.HTTPConnection(way.iip, HTTP, timeout=20)
        try:
            connection.request("GET", "/medium")
            return hashlib.sha256(connection.getresponse().read()).digest()
        finally:
            connection.close()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(fetch, range(20))) == [want] * 20


def wait_for(address, port, process):
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port), timeout=1).close()
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def kernel_http(netns, way, files):
    """A server on the kernel's side, which the device is not needed for."""
    devnull = open(os.devnull, "w")  # noqa: SIM115
    any_address = "0.0.0.0" if way.version == 4 else "::"
    process = netns.start(sys.executable, "-m", "http.server", 8000, "--bind", any_address, "--directory", files,
                          stdout=devnull, stderr=devnull)
    try:
        wait_for("127.0.0.1" if way.version == 4 else "::1", 8000, process)
        yield process
    finally:
        process.kill()
        process.wait()
        devnull.close()


def get(netns, way, path, *options, check=True):
    done = netns.run(*iip_command("get", way.url(path, way.kernel, 8000), *device_options(way.kind, 1, [way]), "--json",
                                  *options), check=check, timeout=90)
    return json.loads(done.stdout)


def test_iip_gets_100_megabytes_from_the_kernel(netns, way, files, kernel_http):
    result = get(netns, way, "big")
    assert (result["status"], result["bytes"], result["complete"]) == (200, BIG, True)
    assert result["sha256"] == sha256(files / "big")


def test_iip_get_tells_of_a_missing_file(netns, way, kernel_http):
    assert get(netns, way, "nothing", check=False)["status"] == 404
