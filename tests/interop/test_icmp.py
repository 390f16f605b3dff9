"""ping, both ways, and ICMP errors."""
import json
import socket

import pytest

from tests.interop.world import CLOSED, Local, Way, device_options, iip_command, need

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("options", [("-c", 3, "-i", "0.05"),
                                     ("-c", 3, "-i", "0.05", "-s", 8000),
                                     ("-c", 100, "-i", "0.002", "-s", 1000)], ids=["small", "fragments", "burst"])
@pytest.mark.every_driver
def test_the_kernel_pings_us(server, netns_module, way, options):
    need("ping")
    if way == Way("dpdk", 4) and 8000 in options:
        pytest.skip("net_af_packet has the kernel put fragments together, and cuts what is longer than its frames")
    out = netns_module.run("ping", f"-{way.version}", "-W", 2, *options, way.iip).stdout
    assert " 0% packet loss" in out, out
    assert "wrong data byte" not in out and "DUP" not in out, out


def test_nobody_answers_for_an_address_that_is_not_ours(server, netns_module, way):
    need("ping")
    before = server.statistics()["counters"]
    done = netns_module.run("ping", f"-{way.version}", "-W", "0.3", "-c", 1, way.nobody, check=False)
    assert done.returncode == 1 and " 100% packet loss" in done.stdout
    after = server.statistics()["counters"]
    assert after.get("icmp_out_echo_reply", 0) == before.get("icmp_out_echo_reply", 0)


@pytest.mark.every_driver
def test_a_port_without_a_service_is_unreachable(server, way):
    with socket.socket(way.family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((way.iip, CLOSED))
        sock.send(b"anybody there?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


@pytest.mark.parametrize("size", [56, 8000])
def test_we_ping_the_kernel(netns, way, size):
    done = netns.run(*iip_command("ping", way.kernel, *device_options(way.kind, 1, [way]), "-c", 3, "-i", 0.02, "-s", size,
                                  "--json"))
    result = json.loads(done.stdout)
    assert result["received"] == result["transmitted"] == 3 and result["errors"] == []


class Errors:
    def __init__(self):
        self.errors = []

    def icmp_error(self, error):
        self.errors.append(error)


def test_we_hear_that_a_port_of_the_kernel_is_unreachable(netns, way):
    handler = Errors()
    with Local(way.kind, handler) as local:
        local.engine.udp_send(b"anybody there?", way.kernel, CLOSED, 5000)
        local.until(lambda: handler.errors)
    error = handler.errors[0]
    assert (str(error.reporter), error.source_port, error.destination_port) == (way.kernel, 5000, CLOSED)
    assert (error.type, error.code) == ((3, 3) if way.version == 4 else (1, 4))


def test_we_hear_that_nobody_has_an_address(netns):
    """A neighbour that does not answer, IPv4 and IPv6: three questions, 1, 2 and 4 seconds apart."""
    handler = Errors()
    ways = [Way("tap", 4), Way("tap", 6)]
    with Local("tap", handler, address_check=False) as local:
        for way in ways:
            local.engine.udp_send(b"anybody there?", way.nobody, 9, 5000)
        local.until(lambda: len(handler.errors) == 2)
    assert {(e.reporter, str(e.destination)) for e in handler.errors} == {(None, way.nobody) for way in ways}
