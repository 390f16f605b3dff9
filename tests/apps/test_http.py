"""The file server over a memory link: framing, keep-alive, ranges, back-pressure, bad requests."""
import os

import h11
import pytest

import iip
from iip.apps.dispatch import Dispatch
from iip.apps.http import HttpServer
from tests.apps.wire import Collector, Wire

BIG = bytes(range(256)) * 20_000


@pytest.fixture
def site(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    (tmp_path / "big.bin").write_bytes(BIG)
    (tmp_path / "empty").write_bytes(b"")
    return tmp_path


class Browser(Collector):
    def __init__(self, **settings):
        super().__init__(**settings)


def serving(site, client=None, **settings):
    app = HttpServer(site)
    apps = Dispatch({80: app})
    client = client or Browser()
    wire = Wire(apps, client, **settings)
    apps.open(wire.server)
    return wire, client, app


def exchange(site, request, seconds=20.0, **settings):
    """Send raw bytes; what came back, raw, and the client."""
    wire, client, _ = serving(site, **settings)
    wire.client.tcp_connect("10.0.0.2", 80).send(request)
    wire.run(seconds)
    data = client.data
    wire.close()
    return data, client


def parse(data, *methods):
    """The responses to requests with these methods: (status, headers, body)."""
    http = h11.Connection(h11.CLIENT)
    http.receive_data(data)
    answers = []
    for method in methods:
        http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        http.send(h11.EndOfMessage())
        status, headers, body = None, {}, b""
        while not isinstance(event := http.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, headers = event.status_code, dict(event.headers)
            else:
                assert isinstance(event, h11.Data), event
                body += event.data
        answers.append((status, headers, body))
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
    assert http.trailing_data[0] == b""
    return answers


def get(target, *headers, method="GET"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def test_a_file(site):
    data, client = exchange(site, get("/a.txt"))
    [(status, headers, body)] = parse(data, "GET")
    assert (status, body) == (200, b"0123456789")
    assert headers[b"content-type"] == b"text/plain" and headers[b"content-length"] == b"10"
    assert b"date" in headers and not client.ended


def test_keep_alive_and_pipelining(site):
    data, client = exchange(site, get("/a.txt") + get("/big.bin") + get("/no") + get("/a.txt", method="HEAD")
                            + get("/a.txt", "Range: bytes=-2"))
    answers = parse(data, "GET", "GET", "GET", "HEAD", "GET")
    assert [(s, b) for s, _, b in answers] == [
        (200, b"0123456789"), (200, BIG), (404, b"not found\n"), (200, b""), (206, b"89")]
    assert answers[3][1][b"content-length"] == b"10"
    assert not client.ended


def test_connection_close_is_obeyed(site):
    data, client = exchange(site, get("/a.txt", "Connection: close"))
    [(status, headers, _)] = parse(data, "GET")
    assert status == 200 and headers[b"connection"] == b"close" and client.ended


def test_http_1_0(site):
    data, client = exchange(site, b"GET /a.txt HTTP/1.0\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200") and data.endswith(b"\r\n\r\n0123456789") and client.ended


def test_an_empty_file(site):
    [(status, headers, body)] = parse(exchange(site, get("/empty"))[0], "GET")
    assert (status, headers[b"content-length"], body) == (200, b"0", b"")


def test_a_big_file_through_small_buffers(site):
    data, _ = exchange(site, get("/big.bin"), send_buffer=8192, receive_buffer=8192, seconds=300)
    [(status, _, body)] = parse(data, "GET")
    assert status == 200 and body == BIG


def test_other_methods(site):
    data, _ = exchange(site, b"POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + get("/a.txt"))
    answers = parse(data, "POST", "GET")
    assert [(s, h.get(b"allow")) for s, h, _ in answers] == [(405, b"GET, HEAD"), (200, None)]


@pytest.mark.parametrize("request_, status", [
    (b"nonsense\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000, 431),
    (b"\x16\x03\x01\x00\x05hello" + bytes(100) + b"\r\n\r\n", 400),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400), (b"GET /a.txt HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    (b"GET /a.txt\r\n\r\n", 505), (b"GET /a.txt HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"GET /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
    (b"POST /a.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (b"POST /a.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", 417),
])
def test_bad_requests_are_answered_and_closed(site, request_, status):
    data, client = exchange(site, request_)
    assert data.startswith(b"HTTP/1.1 %d " % status) and client.ended


def test_a_request_that_breaks_off_is_answered(site):
    class Brief(Browser):
        def tcp_connected(self, conn):
            conn.send(get("/a.txt") + b"GET /a.t")
            conn.shutdown()

    wire, client, _ = serving(site, Brief())
    wire.client.tcp_connect("10.0.0.2", 80)
    wire.run(20)
    answers = parse(client.data, "GET", "GET")
    assert [status for status, _, _ in answers] == [200, 400] and client.ended
    wire.close()


def test_what_follows_the_last_request_is_not_read(site):
    data, client = exchange(site, get("/a.txt", "Connection: close") + get("/a.txt") + b"\0 nonsense")
    [(status, _, body)] = parse(data, "GET")
    assert (status, body) == (200, b"0123456789") and client.ended


@pytest.mark.parametrize("wish", ["websocket", "h2c"])
def test_another_protocol_is_not_taken_up(site, wish):
    """The request is answered in HTTP/1.1; as what follows it may be the other protocol, it is the last one."""
    data, client = exchange(site, get("/a.txt", f"Upgrade: {wish}", "Connection: Upgrade") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    [(status, headers, body)] = parse(data, "GET")
    assert (status, headers[b"connection"], body) == (200, b"close", b"0123456789") and client.ended


def test_many_requests_at_once(site):
    """In pieces as the segments come, several to a piece and some across two."""
    data, _ = exchange(site, get("/a.txt", "X-Long: " + "y" * 100) * 500, seconds=100)
    answers = parse(data, *["GET"] * 500)
    assert {(status, body) for status, _, body in answers} == {(200, b"0123456789")}


def test_requests_are_not_read_while_an_answer_waits(site):
    """Who asks and asks without reading the answers is slowed down by its own window."""
    flood = get("/big.bin") * 3000

    class Flooder(Browser):
        left = memoryview(flood)

        def tcp_connected(self, conn):
            self.tcp_acked(conn, 0)

        def tcp_acked(self, conn, n):
            self.left = self.left[conn.send(self.left):]

    wire, client, app = serving(site, Flooder(consume=False), receive_buffer=16384, send_buffer=16384,
                                autotune=False)
    wire.client.tcp_connect("10.0.0.2", 80)
    wire.run(20)
    assert app.requests == 1 and len(client.left) > len(flood) - 40_000
    wire.close()


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_client_that_goes_away_leaves_nothing(site, end):
    wire, client, _ = serving(site, send_buffer=16384)
    before = open_files()
    conn = wire.client.tcp_connect("10.0.0.2", 80)
    conn.send(get("/big.bin"))
    wire.run(until=lambda: len(client.data) > 20_000)
    assert open_files() == before + 1
    getattr(conn, end)()
    wire.run(5)
    assert open_files() == before and wire.server.n_connections == 0
    wire.close()


def test_a_file_that_shrinks_meanwhile_breaks_off(site):
    wire, client, _ = serving(site, send_buffer=16384)
    wire.client.tcp_connect("10.0.0.2", 80).send(get("/big.bin"))
    wire.run(until=lambda: len(client.data) > 1000)
    os.truncate(site / "big.bin", 1000)
    wire.run(20)
    assert client.reason == iip.Reason.RESET and len(client.data) < len(BIG)
    wire.close()


def test_root_must_be_a_directory(site):
    with pytest.raises(NotADirectoryError, match=r"a\.txt"):
        HttpServer(site / "a.txt")
