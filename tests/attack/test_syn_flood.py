"""A million SYNs from everywhere while honest clients go about their errands."""
import os

import numpy as np
import pytest

from iip import Reason
from tests.attack.forge import forge, strangers, template
from tests.attack.world import CLIENT, SERVER, World
from tests.harness.packets import ACK, SYN, opt_mss, opt_sack_permitted, opt_timestamps, opt_wscale

BATCH = 1000
MANY = 100_000 if "IIP_SANITIZED" in os.environ else 1_000_000


def syns(world, rng, n, options=True):
    wants = opt_mss(1460) + opt_sack_permitted() + opt_timestamps(7, 0) + opt_wscale(7) if options else opt_mss(1460)
    base = template(CLIENT[world.version], SERVER[world.version], 1, 80, SYN, options=wants)
    return forge(base, n, sources=strangers(rng, n, world.version), sport=rng.integers(1, 65536, n),
                 seq=rng.integers(0, 1 << 32, n))


@pytest.mark.parametrize("version,segments,options", [(4, MANY, True), (6, 100_000, True), (4, 100_000, False)])
def test_errands_are_done_under_a_syn_flood(version, segments, options):
    """A thousand connections, most of them begun in the middle of it, bring every byte, whether their handshake
    was remembered or in a cookie."""
    rng = np.random.default_rng(segments + version)
    world = World(version, synack_retries=2)
    errands, rounds = 1000, segments // BATCH
    for i in range(rounds):
        if i % 2 == 0 and errands:
            count = -(-errands // max((rounds - i) // 2, 1))
            world.errands(count, 3000, rng)
            errands -= count
        assert world.step(syns(world, rng, BATCH, options)) >= BATCH
    stats = world.server.stats()
    assert stats["tcp_cookies_sent"] > 0.9 * (segments - 4096)
    assert stats["tcp_cookies_received"] > 500
    assert stats["tcp_passive_opens"] <= 4096 + 1000 + 8192    # half-open ones that were given up make room
    world.settle(20)
    assert world.clients.good == 1000
    assert world.clients.reasons == {Reason.NORMAL: 1000}
    assert world.client.stats()["tcp_retransmits"] == 0
    world.close()


def test_acks_of_guessed_cookies(version=4):
    """A hundred thousand guesses at cookies while cookies are about make no connection."""
    rng = np.random.default_rng(5)
    world = World(version, syn_cookies="always")
    world.step(syns(world, rng, 10))
    base = template(CLIENT[version], SERVER[version], 1, 80, ACK)
    for _ in range(100):
        world.step(forge(base, BATCH, sources=strangers(rng, BATCH, version), sport=rng.integers(1, 65536, BATCH),
                         seq=rng.integers(0, 1 << 32, BATCH), ack=rng.integers(0, 1 << 32, BATCH)))
    stats = world.server.stats()
    assert stats["tcp_cookies_failed"] == 100_000
    assert stats["tcp_cookies_received"] == 0
    assert stats["tcp_rst_out"] + stats["tcp_rst_limited"] == 100_000
    assert stats["tcp_rst_out"] <= 1500
    world.close()


@pytest.mark.parametrize("cookies", ["off", "auto"])
def test_what_the_limit_is_for(cookies):
    """Without cookies a flood keeps honest clients out: this test would not notice otherwise."""
    rng = np.random.default_rng(9)
    world = World(max_half_open=256, syn_cookies=cookies, synack_retries=3)
    world.step(syns(world, rng, 512))
    world.errands(50, 100, rng)
    for _ in range(20):
        world.step(syns(world, rng, 64))
    assert world.clients.good == (0 if cookies == "off" else 50)
    world.settle(60)
    assert world.clients.good == 50
    world.close()
