"""Other addresses and routes for a running engine."""
import pytest

from iip import Config, ConfigError, Engine, Handler, IipError, Reason
from iip.drivers import MemoryLink

SECOND = 1_000_000_000


class App(Handler):
    def __init__(self):
        self.got, self.ended = b"", []
        self.accepted = lambda conn: None

    def tcp_accepted(self, conn):
        self.accepted(conn)

    def tcp_payload(self, conn, data):
        self.got += bytes(data)
        conn.consume(len(data))

    def tcp_closed(self, conn, reason):
        self.ended.append(reason)


class Two:
    """Two engines on Ethernet."""

    def __init__(self, **settings):
        link = MemoryLink("ethernet")
        config = Config(medium="ethernet", address_check=False, **settings)
        self.now = 0
        self.apps = App(), App()
        self.a = Engine(config.replace(addresses=["10.0.0.1/24", "fd00::1/64"]), self.apps[0], link.a, seed=1)
        self.b = Engine(config.replace(addresses=["10.0.0.2/24", "fd00::2/64"]), self.apps[1], link.b, seed=2)
        self.b.tcp_listen(7)
        self.link = link

    def run(self, seconds=0.1):
        end = self.now + round(seconds * SECOND)
        while self.now < end:
            for _ in range(20):
                self.a.run(self.now)
                self.b.run(self.now)
            self.now += SECOND // 20

    def connect(self, address, **settings):
        conn = self.a.tcp_connect(address, 7, **settings)
        self.run()
        assert conn.state.name == "ESTABLISHED"
        return conn

    def close(self):
        for engine in (self.a, self.b):
            engine.abort_all()
        self.run()
        for engine in (self.a, self.b):
            engine.close()
            assert engine.pool.full
        self.link.close()


@pytest.fixture
def two():
    made = Two()
    yield made
    made.close()


def test_connections_of_an_address_that_goes_end_and_others_do_not(two):
    old, kept = two.connect("fd00::2"), two.connect("10.0.0.2")
    two.a.reconfigure(addresses=["fd00::9/64", "10.0.0.1/24"])
    two.run()
    assert old.closed
    assert (two.apps[0].ended, two.apps[1].ended) == ([Reason.ABORTED], [Reason.RESET])
    kept.send(b"still")
    two.run()
    assert two.apps[1].got == b"still"
    assert two.connect("fd00::2").local[0].compressed == "fd00::9"


@pytest.mark.parametrize("new, where", [("10.0.0.77/24", "10.0.0.77"), ("fd00::77/64", "fd00::77")])
def test_a_new_address_is_found_and_the_old_one_is_not(two, new, where):
    two.connect("10.0.0.2")
    two.connect("fd00::2")
    two.b.reconfigure(addresses=[new])
    two.run()
    two.connect(where)
    gone = two.a.tcp_connect("10.0.0.2" if "." in new else "fd00::2", 7)
    two.run(1)
    assert gone.state.name != "ESTABLISHED"


def test_routes_and_gateways(two):
    with pytest.raises(ConfigError, match="no route"):
        two.a.tcp_connect("192.0.2.1", 7)
    two.b.reconfigure(addresses=["10.0.0.2/24", "fd00::2/64", "192.0.2.1/32", "2001:db8::1/128"])
    two.a.reconfigure(gateway="10.0.0.2", routes=[("2001:db8::/32", "fd00::2")])
    two.connect("192.0.2.1")
    two.connect("2001:db8::1")
    two.a.reconfigure(gateway=None)
    with pytest.raises(ConfigError, match="no route"):
        two.a.tcp_connect("192.0.2.1", 7)


def test_a_thousand_addresses_one_after_the_other(two):
    kept = two.connect("10.0.0.2")
    for n in range(1000):
        two.a.reconfigure(addresses=["10.0.0.1/24", f"fd00::{n + 16:x}:{n + 16:x}/64"])
        if n % 200 == 0:          # meanwhile nobody hears of the groups that were left
            two.run(2)
    two.run(10)
    assert two.connect("fd00::2").local[0].compressed == "fd00::3f7:3f7"
    kept.send(b"x")
    two.run()
    assert two.apps[1].got == b"x"


def test_a_new_address_is_checked():
    two = Two()
    two.a.close()
    two.b.close()
    link = MemoryLink("ethernet")
    engine = Engine(Config(medium="ethernet", addresses=["fd00::1/64"]), App(), link.a)
    for second in range(3):
        engine.run(second * SECOND)
    before = engine.stats()["nd_out"]
    engine.reconfigure(addresses=["fd00::1/64", "fd00::5/64"])
    for second in range(3, 6):
        engine.run(second * SECOND)
    assert engine.stats()["nd_out"] == before + 1         # the one that stays is not checked again
    engine.close()
    link.close()
    assert engine.pool.full


def test_what_cannot_be(two):
    with pytest.raises(ConfigError, match="addresses"):
        two.a.reconfigure(addresses=["10.0.0.300/24"])
    with pytest.raises(ConfigError, match="mtu"):
        two.a.reconfigure(mtu=1400)
    assert two.a.addresses == ("10.0.0.1/24", "fd00::1/64")

    two.apps[1].accepted = lambda conn: two.b.reconfigure(addresses=["10.0.0.3/24"])
    two.a.tcp_connect("10.0.0.2", 7)
    with pytest.raises(IipError, match="callback"):
        two.run(2)
