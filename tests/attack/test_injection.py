"""Someone who does not see a connection sends into it, by the ten thousands. Nothing changes, but for what the RFCs
grant to an exact hit."""
import numpy as np
import pytest

from iip import Reason
from tests.attack.forge import forge, template
from tests.harness.packets import (
    ACK,
    FIN,
    M32,
    PSH,
    RST,
    SYN,
    icmp_error,
    opt_mss,
    opt_sack_permitted,
    opt_timestamps,
    opt_wscale,
    tcp,
)
from tests.harness.states import ESTABLISHED, FIN_WAIT_2, SYN_RCVD, SYN_SENT, TIME_WAIT, enter

N = 10_000
SEEDS = [1, 2]
UNTOUCHED = ("state", "snd_una", "snd_nxt", "snd_wnd", "rcv_nxt", "rcv_wnd", "cwnd", "ssthresh", "in_flight", "unsent",
             "rcv_buffered", "out_of_order", "mss", "mtu", "retransmits")


@pytest.fixture
def rng(request):
    return np.random.default_rng(request.param)


def seeds(function):
    return pytest.mark.parametrize("rng", SEEDS, indirect=True)(function)


def open_connection(wire, ts=False):
    options = opt_mss(1440) + opt_sack_permitted() + opt_wscale(2)
    if ts:
        options += opt_timestamps(5000 + wire.now // 1_000_000, 0)
    peer = enter(wire, ESTABLISHED, options=options)
    peer.send(ACK, data=b"hello")
    peer.expect(ACK)                  # the whole window is offered now, not only what fits into a SYN
    wire.handler.take()
    wire.mark()
    return peer


def base(peer, flags, data=b"", options=b""):
    return template(peer.remote, peer.local, peer.port, peer.local_port, flags, data=data, options=options)


def pelt(wire, packets, batch=500):
    """All of them; what the engine answered is thrown away."""
    for i in range(0, len(packets), batch):
        for raw in packets[i:i + batch]:
            assert wire.driver.feed(raw)
        wire.run()
        wire.advance(0.001)
        wire.sent.clear()


def changes(before, after):
    """What differs between two rows of the snapshot and should not."""
    return {k: (int(before[k]), int(after[k])) for k in UNTOUCHED if before[k] != after[k]}


def still_works(peer):
    """Data both ways."""
    wire = peer.wire
    wire.handler.take()
    wire.advance(0.01)
    peer.send(ACK, data=b"honest")
    peer.expect(ACK)
    assert wire.handler.take() == [("payload", b"honest")]
    peer.write(b"answer")
    peer.expect(ACK, data=b"answer")
    peer.send(ACK)
    assert wire.row["in_flight"] == 0
    wire.handler.take()


def everywhere_but(rng, n, low, high):
    """Numbers outside [low, high] modulo 2**32."""
    span = (high - low + 1) & M32
    return (np.uint64(high + 1) + rng.integers(0, (1 << 32) - span, n, dtype=np.uint64)) & np.uint64(M32)


def within(rng, n, low, size):
    return (np.uint64(low) + rng.integers(0, size, n, dtype=np.uint64)) & np.uint64(M32)


@seeds
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_rst(wire, rng, flags):
    """RFC 5961 §3.2: outside the window nothing, inside a challenge; one number of 2**32 resets."""
    peer = open_connection(wire)
    before = wire.row.copy()
    guesses = np.concatenate([everywhere_but(rng, N // 2, peer.nxt, peer.nxt),
                              within(rng, N // 2, peer.nxt + 1, int(before["rcv_wnd"]))])
    pelt(wire, forge(base(peer, flags), N, seq=guesses, ack=rng.integers(0, 1 << 32, N)))
    assert changes(before, wire.row) == {}
    counted = wire.counted()
    assert counted["tcp_rst_challenged"] + counted["tcp_out_of_window"] == N
    assert counted["tcp_challenge_ack"] <= 1500
    still_works(peer)
    peer.send(RST, seq=peer.nxt)
    assert wire.handler.take() == [("closed", Reason.RESET)]


@seeds
def test_syn(wire, rng):
    """RFC 5961 §4.2: whatever its number, a challenge."""
    peer = open_connection(wire)
    before = wire.row.copy()
    guesses = np.concatenate([rng.integers(0, 1 << 32, N // 2), within(rng, N // 2, peer.nxt, 65536)])
    pelt(wire, forge(base(peer, SYN, options=opt_mss(64)), N, seq=guesses))
    assert changes(before, wire.row) == {}
    still_works(peer)


@seeds
@pytest.mark.parametrize("flags", [ACK, ACK | PSH, ACK | FIN])
def test_data_with_guessed_numbers(wire, rng, flags):
    """Right number and wrong acknowledgement, or the other way round (RFC 5961 §5): dropped."""
    peer = open_connection(wire)
    before = wire.row.copy()
    window, half = int(before["rcv_wnd"]), N // 2
    far = everywhere_but(rng, half, (peer.rcv - 65535 * 4) & M32, peer.rcv)
    pelt(wire, forge(base(peer, flags, data=b"inject"), half, seq=within(rng, half, peer.nxt, window), ack=far))
    outside = everywhere_but(rng, half, (peer.nxt - 6) & M32, (peer.nxt + window) & M32)
    pelt(wire, forge(base(peer, flags, data=b"inject"), half, seq=outside, ack=peer.rcv))
    assert changes(before, wire.row) == {}
    assert wire.handler.take() == []
    counted = wire.counted()
    assert counted["tcp_bad_ack"] == half
    assert counted["tcp_out_of_window"] == half
    still_works(peer)


@seeds
def test_data_with_old_timestamps(wire, rng):
    """RFC 7323 §5: both numbers right, the third unknown to the attacker."""
    peer = open_connection(wire, ts=True)
    before = wire.row.copy()
    now = peer.ts_now()
    packets = []
    for stamp in everywhere_but(rng, 50, now, (now + (1 << 31)) & M32):
        packets += forge(base(peer, ACK, data=b"inject", options=opt_timestamps(int(stamp), 0)), 100,
                         seq=within(rng, 100, peer.nxt, int(before["rcv_wnd"])), ack=peer.rcv)
    pelt(wire, packets)
    assert changes(before, wire.row) == {}
    assert wire.counted()["tcp_paws"] == len(packets)
    still_works(peer)


@seeds
def test_acks(wire, rng):
    """Of what was never sent, or long ago: neither the windows nor what is in flight move."""
    peer = open_connection(wire)
    assert peer.conn.send(bytes(2880)) == 2880
    wire.run()
    wire.sent.clear()
    before = wire.row.copy()
    start, end = int(before["snd_una"]), int(before["snd_nxt"])
    ack = everywhere_but(rng, N, (start - 65535 * 4) & M32, end)
    for i in range(0, N, 500):
        for raw in forge(base(peer, ACK), 500, seq=peer.nxt, ack=ack[i:i + 500], wnd=rng.integers(0, 65536, 500)):
            assert wire.driver.feed(raw)
        wire.run()
        wire.sent.clear()
    assert changes(before, wire.row) == {}
    peer.send(ACK, ack=end)
    assert wire.row["in_flight"] == 0
    assert [e for e in wire.handler.take() if e[0] == "acked"] == [("acked", 2880)]


HARD = {4: (3, 3), 6: (1, 4)}
BIG = {4: (3, 4), 6: (2, 0)}


@seeds
@pytest.mark.parametrize("kind", [HARD, BIG], ids=["unreachable", "too-big"])
@pytest.mark.parametrize("state", [ESTABLISHED, SYN_SENT, SYN_RCVD], ids=lambda s: s.name)
def test_icmp(wire, version, rng, kind, state):
    """RFC 5927 §4: a quoted number that is not in flight means nothing, in any state."""
    peer = enter(wire, state, options=opt_mss(1460))
    if state == ESTABLISHED:
        assert peer.conn.send(bytes(3000)) == 3000
        wire.run()
        wire.sent.clear()
    before = wire.row.copy()
    una, nxt = int(before["snd_una"]), int(before["snd_nxt"])
    packets = []
    for seq in everywhere_but(rng, 2000, una, (nxt - 1) & M32):
        quoted = tcp(peer.local, peer.remote, peer.local_port, peer.port, int(seq), 0, ACK)
        quote = template(peer.local, peer.remote, 1, 1, ACK)[:20 if version == 4 else 40] + quoted
        packets.append(icmp_error(peer.remote, peer.local, *kind[version], 600 if version == 4 else 1280, quote))
    for i in range(0, len(packets), 500):
        wire.feed(*packets[i:i + 500])
    assert changes(before, wire.row) == {}
    assert wire.counted()["tcp_icmp_out_of_window"] == 2000
    wire.sent.clear()


@seeds
def test_icmp_that_hits_does_not_end_an_open_connection(wire, version, rng):
    """RFC 5927 §5, §7: an exact hit is a soft error, or makes segments smaller, down to the floor."""
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460))
    assert peer.conn.send(bytes(3000)) == 3000
    wire.run()
    (first, *_), _ = list(wire.sent), wire.sent.clear()
    for code in range(16 if version == 4 else 8):
        peer.icmp(3 if version == 4 else 1, code, 68, quote=first)
    assert wire.state == ESTABLISHED
    assert wire.row["mss"] >= (576 - 40 if version == 4 else 1280 - 60)
    wire.sent.clear()


@seeds
@pytest.mark.parametrize("state", [FIN_WAIT_2, TIME_WAIT], ids=lambda s: s.name)
def test_closing_connections(wire, rng, state):
    """Everything at once, at connections that are going."""
    peer = enter(wire, state)
    window = int(wire.row["rcv_wnd"])
    seq = everywhere_but(rng, N, (peer.nxt - 4) & M32, (peer.nxt + window) & M32)
    flags = rng.choice([RST, RST | ACK, FIN | ACK, ACK, SYN | ACK], N)
    pelt(wire, forge(base(peer, ACK, data=b"data"), N, seq=seq, ack=rng.integers(0, 1 << 32, N), flags=flags))
    assert wire.state == state


@seeds
def test_half_open_connection(wire, rng):
    """A stranger neither completes a handshake nor spoils it, unless a SYN of his lies in the window: RFC 9293 has that
    return to LISTEN, and the peer's next SYN begins again."""
    peer = enter(wire, SYN_RCVD)
    window = int(wire.row["rcv_wnd"])
    outside = everywhere_but(rng, N, (peer.nxt - 2) & M32, (peer.nxt + window) & M32)
    flags = rng.choice([RST, RST | ACK, FIN | ACK, ACK, SYN, SYN | ACK], N)
    packets = forge(base(peer, ACK), N, seq=outside, ack=rng.integers(0, 1 << 32, N), flags=flags)
    bad_acks = forge(base(peer, ACK), N, seq=within(rng, N, peer.nxt, window),
                     ack=everywhere_but(rng, N, peer.rcv, peer.rcv))
    for i in range(0, N, 500):
        wire.feed(*packets[i:i + 500])
        wire.feed(*bad_acks[i:i + 500])
        wire.sent.clear()
    assert wire.state == SYN_RCVD
    assert wire.handler.take() == []
    peer.send(ACK)
    assert wire.handler.take() == [("accepted",)]
