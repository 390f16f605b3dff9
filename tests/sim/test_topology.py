"""Routers and switches, and networks of many hosts."""
import ipaddress

import pytest

import iip
from iip.sim import BulkFlow, Simulation, chain, dumbbell, jain, star
from tests.sim.worlds import Recorder, address


@pytest.fixture
def sim():
    with Simulation(seed=1) as made:
        yield made
    assert made.packets_in_use == 0


# -- routers -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [4, 6])
def test_every_router_takes_one_off_the_ttl(sim, version):
    world = chain(sim, 5, handler=Recorder(), link={"delay": 0.001})
    world.first.engine.ping(address(world.last, version), 1, 1, b"x" * 100)
    sim.run(1)
    [reply] = world.first.engine.handler.pings
    assert reply.ttl == 64 - 5 and reply.data == b"x" * 100
    assert [r.stats()["forwarded"] for r in world.routers] == [2] * 5


@pytest.mark.parametrize("version", [4, 6])
def test_traceroute(sim, version):
    world = chain(sim, 4, handler=Recorder(), link={"delay": 0.001})
    target = address(world.last, version)
    for ttl in range(1, 6):
        sim.at(0.1 * ttl, lambda ttl=ttl: world.first.engine.udp_send(b"?", target, 33434, 1000 + ttl, ttl=ttl))
    sim.run(2)
    errors = world.first.engine.handler.errors
    assert [e.source_port for e in errors] == [1001, 1002, 1003, 1004, 1005]
    names = [r.address if version == 4 else r.address6 for r in world.routers]
    assert [str(e.reporter) for e in errors] == [*names, target]
    assert {(e.type, e.code) for e in errors[:4]} == {(11, 0) if version == 4 else (3, 0)}


@pytest.mark.parametrize("version", [4, 6])
def test_no_route(sim, version):
    world = chain(sim, 2, handler=Recorder())
    nowhere = "10.77.0.1" if version == 4 else "fd00::7777"
    world.first.engine.udp_send(b"x", nowhere, 9, 9)
    sim.run(1)
    [error] = world.first.engine.handler.errors
    assert (error.type, error.code) == ((3, 0) if version == 4 else (1, 0))
    assert str(error.reporter) in (world.routers[0].address, world.routers[0].address6)
    assert world.routers[0].stats()["no_route"] == 1


@pytest.mark.parametrize("version", [4, 6])
def test_path_mtu_discovery(sim, version):
    # RFC 1191, RFC 8201: the segment that is too long is reported by the router and sent again in smaller ones
    first, last = sim.host("first"), sim.host("last")
    west, east = sim.router("west"), sim.router("east")
    sim.link(first, west, delay=0.002)
    sim.link(west, east, delay=0.005, mtu=1300)
    sim.link(east, last, delay=0.002)
    flow = BulkFlow(sim, first, last, bytes=3_000_000, version=version)
    sim.run(20)
    assert flow.received == 3_000_000 and flow.done < 10
    assert int(flow.info()["mtu"]) == 1300
    assert 1 <= west.stats()["too_big"] == west.stats()["icmp_sent"] <= 12
    assert last.stats()["tcp_bad_checksum"] == 0


def test_packets_that_may_be_are_fragmented(sim):
    a, b, router = sim.host("a", handler=Recorder()), sim.host("b", handler=Recorder()), sim.router("r")
    sim.link(a, router)
    sim.link(router, b, mtu=576, back={"mtu": 65535})
    a.engine.ping(address(b), 1, 1, bytes(range(250)) * 5)
    sim.run(1)
    assert [r.data for r in a.engine.handler.pings] == [bytes(range(250)) * 5]
    assert router.stats()["fragmented"] == 1 and b.stats()["ip_reassembled"] == 1


def test_routes_of_ones_own(sim):
    a = sim.host("a", "192.0.2.1/24", gateway="192.0.2.254", handler=Recorder())
    b = sim.host("b", "198.51.100.1/24", gateway="198.51.100.254", handler=Recorder())
    black_hole = sim.host("hole", handler=Recorder())
    router = sim.router("r", automatic=False)
    for host in (a, b, black_hole):
        sim.link(host, router)
    sim.route(router, "0.0.0.0/0", black_hole)
    sim.route(router, "192.0.2.0/24", a)
    sim.route(router, "198.51.100.0/24", b)
    a.engine.ping("198.51.100.1", 1, 1)
    a.engine.ping("203.0.113.1", 1, 2)
    sim.run(1)
    assert [r.seq for r in a.engine.handler.pings] == [1]
    assert black_hole.stats()["rx_packets"] == 1
    sim.route(router, "198.51.100.1/32", black_hole)  # the longest prefix counts, also for what was remembered
    a.engine.ping("198.51.100.1", 1, 3)
    sim.run(2)
    assert len(a.engine.handler.pings) == 1 and black_hole.stats()["rx_packets"] == 2


def test_the_shortest_way_is_taken(sim):
    a, b = sim.host("a", handler=Recorder()), sim.host("b", handler=Recorder())
    routers = [sim.router(f"r{i}") for i in range(5)]
    sim.link(a, routers[0])
    for i in range(5):
        sim.link(routers[i], routers[(i + 1) % 5])    # a ring
    sim.link(routers[3], b)
    a.engine.ping(address(b), 1, 1)
    sim.run(1)
    assert a.engine.handler.pings[0].ttl == 64 - 3    # 0, 4, 3
    assert [r.stats()["forwarded"] for r in routers] == [2, 0, 0, 2, 2]


def test_routers_drop_what_is_not_ip(sim):
    a, b = sim.host("a", handler=Recorder()), sim.host("b", handler=Recorder())
    router = sim.router("r")
    sim.link(a, router, corrupt=1.0)
    sim.link(router, b)
    for i in range(300):
        sim.at(i / 100, lambda: a.engine.udp_send(b"", address(b), 9, 9))
    sim.run(10)
    stats = router.stats()
    assert stats["malformed"] > 100                   # 20 of 28 bytes are the header's
    assert stats["malformed"] + stats["forwarded"] + stats["no_route"] + stats["ttl_expired"] == 300


# -- switches ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("version", [4, 6])
def test_a_switch_learns(sim, version):
    switch = sim.switch("s")
    hosts = [sim.host(f"h{i}", handler=Recorder(), medium="ethernet") for i in range(4)]
    for host in hosts:
        sim.link(host, switch, delay=0.0001)
    for i, host in enumerate(hosts):
        for other in hosts:
            if other is not host:
                host.engine.ping(address(other, version), i, 0)
    sim.run(10)                                       # the hosts have also announced themselves
    assert all(len(host.engine.handler.pings) == 3 for host in hosts)
    before = switch.stats()
    hosts[0].engine.ping(address(hosts[1], version), 9, 9)
    sim.run(10.1)
    after = switch.stats()
    assert after["forwarded"] - before["forwarded"] == 2 and after["flooded"] == before["flooded"]


def test_switches_in_a_row_carry_tcp(sim):
    switches = [sim.switch(f"s{i}") for i in range(3)]
    a, b = (sim.host(name, medium="ethernet") for name in "ab")
    sim.link(a, switches[0])
    sim.link(switches[0], switches[1], rate=50e6, delay=0.002, queue=1 << 17)
    sim.link(switches[1], switches[2])
    sim.link(switches[2], b)
    flow = BulkFlow(sim, a, b)
    sim.run(3)
    assert flow.goodput(1, 3) > 0.95 * 50e6 * 1500 / 1514


# -- shapes ------------------------------------------------------------------------------------------------------

def test_dumbbell(sim):
    world = dumbbell(sim, 4, bottleneck={"rate": 40e6, "delay": 0.01, "queue": 100_000}, access={"delay": 0.001})
    flows = [BulkFlow(sim, left, right, start=0.1 * i)
             for i, (left, right) in enumerate(zip(world.left, world.right, strict=True))]
    sim.run(20)
    rates = [flow.goodput(5, 20) for flow in flows]
    assert 0.85 * 40e6 < sum(rates) <= 40e6
    assert jain(rates) > 0.7
    assert world.bottleneck.stats()["there"]["queue_full"] > 0


def test_star_of_many_hosts(sim):
    world = star(sim, 30, handler=Recorder(), link={"delay": 0.0005}, pool_packets=256, max_connections=16)
    for i, host in enumerate(world.hosts):
        for j in (i + 1, i + 7, i + 13):
            other = world.hosts[j % 30]
            host.engine.ping(address(other, 4 if j % 2 else 6), i, j)
    sim.run(1)
    assert len(world.hosts[0].engine.handler.pings) == 90     # the recorder is shared by all
    assert world.centre.stats()["forwarded"] == 180


def test_addresses_are_distinct(sim):
    world = star(sim, 5)
    addresses = [a for host in world.hosts for a in host.engine.addresses] + [world.centre.address]
    assert len(set(addresses)) == 11
    assert all(ipaddress.ip_interface(a) for a in addresses)
    assert isinstance(world.hosts[0].engine, iip.Engine)
