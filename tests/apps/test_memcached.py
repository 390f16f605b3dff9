"""The cache server by its protocol, as bytes in and bytes out, and its bounds."""
import pytest

import iip
from iip.apps.memcached import Memcached
from iip.drivers import MemoryLink
from iip.memory.pool import PacketPool


class Client(iip.Handler):
    def __init__(self):
        self.got, self.closed = bytearray(), None

    def tcp_payload(self, conn, data):
        self.got += data
        conn.consume(len(data))

    def tcp_closed(self, conn, reason):
        self.closed = reason


class World:
    def __init__(self, **settings):
        link, self.pool = MemoryLink(), PacketPool(4096, 2048)
        common = {"medium": "ip", "address_check": False}
        self.cache, self.client = Memcached(**settings), Client()
        self.engines = [iip.Engine(iip.Config(addresses=(f"10.0.0.{i}/24",), **common), handler, driver, self.pool, seed=i)
                        for i, handler, driver in ((1, self.client, link.a), (2, self.cache, link.b))]
        self.now = 1_000_000_000
        self.engines[1].tcp_listen(11211)
        self.conn = self.engines[0].tcp_connect("10.0.0.2", 11211)
        self.run()

    def run(self, rounds=30):
        for _ in range(rounds):
            self.now += 1_000_000
            for engine in self.engines:
                engine.run(self.now)

    def say(self, text, rounds=30):
        """Send it; the answers."""
        data = text.encode() if isinstance(text, str) else text
        while data:
            data = data[self.conn.send(data):]
            self.run(rounds)
        got, self.client.got = self.client.got, bytearray()
        return got.decode()

    def close(self):
        for engine in self.engines:
            engine.abort_all()
        self.run()
        assert self.cache.stats()["curr_connections"] == 0
        for engine in self.engines:
            engine.close()
            engine.driver.close()
        assert self.pool.full


@pytest.fixture
def world():
    world = World()
    yield world
    world.close()


# what is said and answered, one after the other; `$` is the end of a line
TEXT = """
get a|END
set a 5 0 3$abc|STORED
get a|VALUE a 5 3$abc$END
gets a b a|VALUE a 5 3 1$abc$VALUE a 5 3 1$abc$END
add a 0 0 1$x|NOT_STORED
add b 0 0 1$x|STORED
replace c 0 0 1$x|NOT_STORED
append a 9 9 2$de|STORED
prepend a 0 0 1$_|STORED
get a|VALUE a 5 6$_abcde$END
cas b 1 0 2 99$zz|EXISTS
cas nobody 1 0 2 99$zz|NOT_FOUND
gets b|VALUE b 0 1 2$x$END
cas b 1 0 2 2$zz|STORED
get b|VALUE b 1 2$zz$END
incr b 1|CLIENT_ERROR cannot increment or decrement non-numeric value
set n 0 0 1$9|STORED
incr n 3|12
decr n 5|7
decr n 50|0
incr none 1|NOT_FOUND
incr n x|CLIENT_ERROR invalid numeric delta argument
set n 0 0 20$18446744073709551610|STORED
incr n 10|4
touch a 100|TOUCHED
touch none 0|NOT_FOUND
gat 100 a n|VALUE a 5 6$_abcde$VALUE n 0 20$4                   $END
delete a|DELETED
delete a|NOT_FOUND
set q 0 0 1 noreply$1$delete q noreply$get q|END
set e 0 0 0$|STORED
get e|VALUE e 0 0$$END
verbosity 1|OK
flush_all|OK
get b|END
nonsense|ERROR
get|ERROR
version|VERSION 1.6.0-iip
"""

META = """
mn|MN
mg a v|EN
ms a 3 T0 F7 c$abc|HD
mg a v f s k Oxyz|VA 3 f7 s3 ka Oxyz$abc
mg a t h|HD t-1 h1
mg a|HD
ms a 2 ME$no|NS
ms a 2 MA$de|HD
ms a 1 MP$_|HD
mg a v|VA 6$_abcde
ms a 1 C999$x|EX
ms none 1 MR$x|NS
ms none 1 C5$x|NF
md a q|
md a|NF
md a Otag k|NF Otag ka
ma n|NF
ma n N0 J13 v|VA 2$13
ma n D7 v|VA 2$20
ma n MD D5 v q|VA 2$15
mg none v q|
mg none v q$mn|MN
"""


@pytest.mark.parametrize("script", [TEXT, META])
@pytest.mark.parametrize("pieces", [None, 1])
def test_protocol(world, script, pieces):
    """Also when every byte comes in a packet of its own."""
    for line in filter(None, script.split("\n")):
        said, _bar, answer = line.partition("|")
        said = said.replace("$", "\r\n") + "\r\n"
        answer = answer.replace("$", "\r\n") + ("\r\n" if answer else "")
        if pieces is None:
            assert world.say(said) == answer, line
        else:
            world.conn.nodelay = True
            got = "".join(world.say(byte, 3) for byte in said)
            assert got + world.say("") == answer, line


def test_many_requests_in_one_packet(world):
    assert world.say("set k 0 0 1\r\nv\r\n" + "get k\r\n" * 100) == "STORED\r\n" + "VALUE k 0 1\r\nv\r\nEND\r\n" * 100


def test_what_expires(world):
    assert world.say("set a 0 10 1\r\nx\r\nset b 0 -1 1\r\nx\r\nset c 0 0 1\r\nx\r\n") == "STORED\r\n" * 3
    assert world.say("get a b c\r\n") == "VALUE a 0 1\r\nx\r\nVALUE c 0 1\r\nx\r\nEND\r\n"
    world.cache.advance(11)
    assert world.say("get a c\r\n") == "VALUE c 0 1\r\nx\r\nEND\r\n"


def test_bad_input(world):
    assert world.say("set a 0 0 -1\r\n") == world.say(f"get {'k' * 251}\r\n") == "CLIENT_ERROR bad command line format\r\n"
    assert world.say(f"set {'k' * 251} 0 0 1\r\n").startswith("CLIENT_ERROR")
    assert world.say("set big 0 0 2000000\r\n") == "SERVER_ERROR object too large for cache\r\n"
    world.say(b"x" * 2_000_002, 4)
    assert world.say("mn\r\n") == "MN\r\n"
    assert world.say("set a 0 0 1\r\ntoo long\r\n") == "CLIENT_ERROR bad data chunk\r\n"
    world.run()
    assert world.client.closed is not None or world.conn.state != iip.State.ESTABLISHED


def test_a_line_without_an_end(world):
    world.conn.send(b"x" * 20_000)
    world.run(100)
    assert world.client.got == b"CLIENT_ERROR line too long\r\n"


def test_memory_is_bounded_and_the_least_recently_used_gives_way():
    world = World(memory=64 << 10, max_item=8 << 10)
    value = "v" * 4000
    for i in range(100):
        assert world.say(f"set k{i} 0 0 {len(value)}\r\n{value}\r\n", 4) == "STORED\r\n"
        assert world.say("get k0\r\n", 4).startswith("VALUE")         # used all the time: it stays
        assert world.cache.stats()["bytes"] <= 64 << 10
    stats = world.cache.stats()
    assert 10 < stats["curr_items"] < 17 and stats["evictions"] == 100 - stats["curr_items"]
    assert world.say("get k99\r\n").startswith("VALUE") and world.say("get k1\r\n") == "END\r\n"
    assert world.say("append k99 0 0 1\r\nx\r\n") == "STORED\r\n"
    world.close()


def test_a_client_that_does_not_read_its_answers():
    """Its requests wait, its window closes, nothing grows; when it reads again it gets every answer."""
    world = World()
    value = "v" * 20_000
    assert world.say(f"set k 0 0 {len(value)}\r\n{value}\r\n", 10) == "STORED\r\n"
    world.conn.pause()
    sent, requests = 0, b"get k\r\n" * 100
    for _ in range(50):
        sent += world.conn.send(requests[sent:])
        world.run(5)
    world.conn.resume()
    for _ in range(3000):
        sent += world.conn.send(requests[sent:]) if sent < len(requests) else 0
        world.run(2)
        if world.client.got.count(b"END\r\n") == 100:
            break
    assert world.client.got == (f"VALUE k 0 {len(value)}\r\n{value}\r\nEND\r\n" * 100).encode()
    world.close()


def test_settings():
    for wrong, name in (({"memory": 100}, "memory"), ({"max_item": 10}, "max_item")):
        with pytest.raises(iip.ConfigError, match=name):
            Memcached(**wrong)
