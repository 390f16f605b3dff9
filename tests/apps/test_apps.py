"""The servers in virtual time over a memory link: echo, discard, chargen, dispatch by port."""
import iip
from iip.apps.chargen import Chargen, pattern
from iip.apps.discard import Discard
from iip.apps.dispatch import Dispatch
from iip.apps.echo import Echo
from tests.apps.wire import Collector, Wire


def start(tcp, udp=None, client=None, **settings):
    apps = Dispatch(tcp, udp)
    client = client or Collector()
    wire = Wire(apps, client, **settings)
    apps.open(wire.server)
    return wire, client


class Sender(Collector):
    """Sends `data`, then FIN."""

    def __init__(self, data, consume=True):
        super().__init__(consume)
        self.left = memoryview(data)

    def tcp_connected(self, conn):
        self.tcp_acked(conn, 0)

    def tcp_acked(self, conn, n):
        if self.left is not None:
            self.left = self.left[conn.send(self.left):]
            if not len(self.left):
                self.left = None
                conn.shutdown()

    def tcp_shutdown(self, conn):
        super().tcp_shutdown(conn)
        conn.close()


def test_echo_of_a_small_message():
    wire, client = start({7: Echo()})
    wire.client.tcp_connect("10.0.0.2", 7).send(b"hello")
    wire.run(1)
    assert client.data == b"hello"
    wire.close()


def test_echo_of_much_more_than_the_buffers():
    data = bytes(range(251)) * 20_000
    wire, client = start({7: Echo()}, client=Sender(data), send_buffer=65536, receive_buffer=65536)
    wire.client.tcp_connect("10.0.0.2", 7)
    wire.run(200)
    assert client.data == data and client.ended and client.reason == iip.Reason.NORMAL
    wire.close()


def test_echo_slows_down_a_peer_that_does_not_read():
    data = bytes(5_000_000)
    wire, client = start({7: Echo()}, client=Sender(data, consume=False), send_buffer=65536, receive_buffer=65536,
                         autotune=False)
    conn = wire.client.tcp_connect("10.0.0.2", 7)
    wire.run(10)
    taken = len(data) - len(client.left)
    assert taken < 4 * 65536 + 65536 and conn.send_room == 0
    wire.server.abort_all()
    wire.run()
    wire.close()


def test_discard_counts_and_closes():
    app = Discard()
    wire, client = start({9: app}, client=Sender(bytes(300_000)))
    wire.client.tcp_connect("10.0.0.2", 9)
    wire.run(200)
    assert app.bytes == 300_000 and client.data == b"" and client.reason == iip.Reason.NORMAL
    wire.close()


def test_chargen_sends_the_rotating_lines():
    wire, client = start({19: Chargen(limit=50_000)})
    wire.client.tcp_connect("10.0.0.2", 19)
    wire.run(10)
    assert client.data == (pattern() * 8)[:50_000] and client.ended
    assert client.data[:74] == bytes(range(32, 104)) + b"\r\n"
    assert client.data[74:77] == b"!\"#"
    wire.close()


def test_chargen_goes_on_until_the_peer_has_enough():
    wire, client = start({19: Chargen()})
    conn = wire.client.tcp_connect("10.0.0.2", 19)
    wire.run(until=lambda: len(client.data) > 1_000_000)
    conn.close()
    wire.run(1)
    assert wire.server.n_connections == 0
    wire.close()


def test_udp_echo_and_discard():
    discard = Discard()
    wire, client = start({}, {7: Echo(), 9: discard})
    wire.client.udp_bind(4000)
    wire.client.udp_send(b"ping", "10.0.0.2", 7, 4000)
    wire.client.udp_send(bytes(4000), "10.0.0.2", 7, 4000)
    wire.client.udp_send(b"gone", "10.0.0.2", 9, 4000)
    wire.run(1)
    assert client.datagrams == [b"ping", bytes(4000)] and discard.bytes == 4
    wire.close()


def test_a_port_without_a_server_is_refused():
    wire, client = start({7: Echo()})
    wire.client.tcp_connect("10.0.0.2", 8)
    wire.run(1)
    assert client.reason == iip.Reason.REFUSED
    wire.close()


def test_each_port_has_its_server():
    wire, client = start({7: Echo(), 9: Discard()})
    for port in (7, 9):
        wire.client.tcp_connect("10.0.0.2", port).send(str(port).encode())
    wire.run(1)
    assert client.data == b"7"
    wire.close()
