"""Path MTU discovery by probes (RFC 4821, RFC 8899), against a path that drops large packets without a word."""
import pytest

from tests.harness.packets import ACK, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, enter

OFFER = opt_mss(1460) + opt_sack_permitted()


def headers(version):
    return 40 if version == 4 else 60


class Path:
    """A peer behind a path of some MTU, that acknowledges everything that reaches it, with SACK if `sack`."""

    def __init__(self, wire, mtu, sack=True, rtt=0.05):
        self.wire, self.mtu, self.sack, self.rtt = wire, mtu, sack, rtt
        self.peer = enter(wire, ESTABLISHED, options=opt_mss(1460) + (opt_sack_permitted() if sack else b""))
        self.next = self.peer.rcv
        self.ahead = {}
        self.sizes = []               # of what arrived
        self.dropped = []
        self.data = b""

    def blocks(self):
        found = []
        for seq in sorted(self.ahead):
            end = seq + len(self.ahead[seq])
            if found and found[-1][1] == seq:
                found[-1] = (found[-1][0], end)
            else:
                found.append((seq, end))
        return found[-3:]

    def arrive(self, s):
        self.sizes.append(len(s.data))
        self.ahead[s.seq] = s.data
        while self.next in self.ahead:
            data = self.ahead.pop(self.next)
            self.next += len(data)
            self.data += data
        for seq in [q for q in self.ahead if q < self.next]:
            del self.ahead[seq]

    def run(self, seconds, keep=lambda: None):
        """Let time pass; `keep` fills the send buffer."""
        end = self.wire.now + round(seconds * 1e9)
        while self.wire.now < end:
            keep()
            self.wire.run()
            arrived = []
            while self.wire.sent:
                s = self.wire.sent.popleft()
                if len(s.raw) > self.mtu:
                    self.dropped.append(len(s.data))
                elif s.data:
                    arrived.append(s)
            self.wire.advance(self.rtt)
            acks = []
            for s in arrived:
                self.arrive(s)
                blocks = self.blocks()
                acks.append(self.peer.packet(ACK, ack=self.next, seq=self.peer.nxt,
                                             options=opt_sack(*blocks) if blocks and self.sack else b""))
            self.wire.feed(*acks)


def writer(path, total):
    """Sends `total` bytes of a pattern as there is room."""
    text = bytes(i * 7 % 251 for i in range(total))
    state = {"left": memoryview(text)}

    def keep():
        if len(state["left"]):
            state["left"] = state["left"][path.peer.conn.send(state["left"]):]
    return keep, text


def finish(path):
    path.peer.conn.abort()
    path.wire.run()
    path.wire.sent.clear()


@pytest.mark.parametrize("mtu", [1500, 1400, 1320])
@pytest.mark.parametrize("sack", [True, False], ids=["sack", "nosack"])
def test_always(make, version, mtu, sack):
    """It begins at the base, and ends within 8 bytes of what the path takes. Lost probes are no congestion."""
    wire = make(mtu_probing="always")
    path = Path(wire, mtu, sack)
    base = 1024 if version == 4 else 1220
    assert path.peer.conn.mss == base
    keep, text = writer(path, 1_500_000)
    path.run(4, keep)
    most = mtu - headers(version)
    assert most - 8 < path.peer.conn.mss <= most
    assert path.data == text
    stats = wire.engine.stats()
    assert stats["tcp_mtu_probes"] == stats["tcp_mtu_probes_confirmed"] + stats["tcp_mtu_probe_failures"]
    assert (stats["tcp_mtu_probe_failures"] > 0) == (mtu < 1500) or mtu == 1320
    assert stats["tcp_fast_retransmits"] == stats["tcp_rto_expired"] == 0
    finish(path)


def test_the_first_probe_is_half_way(make, version):
    wire = make(mtu_probing="always")
    path = Path(wire, 1500)
    keep, _ = writer(path, 100_000)
    path.run(0.5, keep)
    base, high = (1024, 1460) if version == 4 else (1220, 1440)
    assert next(n for n in path.sizes if n > base) == (base + high) // 2
    finish(path)


def test_not_without_data_behind_it(make):
    """Short answers are never probes."""
    wire = make(mtu_probing="always")
    path = Path(wire, 1500)
    for _ in range(30):
        path.peer.conn.send(b"x" * 3000)
        path.run(0.1)
    assert wire.engine.stats()["tcp_mtu_probes"] == 0
    finish(path)


@pytest.mark.parametrize("sack", [True, False], ids=["sack", "nosack"])
def test_black_hole(make, version, sack):
    """Four timeouts of a full segment, and segments become small enough. Then the search finds what the path takes."""
    wire = make(mtu_probing="blackhole")
    path = Path(wire, 1300, sack)
    assert path.peer.conn.mss == 1500 - headers(version)
    keep, text = writer(path, 1_500_000)
    path.run(60, keep)
    assert path.data == text
    stats = wire.engine.stats()
    assert stats["tcp_mtu_black_holes"] == 1
    assert 1300 - headers(version) - 8 < path.peer.conn.mss <= 1300 - headers(version)
    finish(path)


def test_black_hole_below_the_base(make, version):
    """IPv4 allows 576 bytes and less: the base is halved. IPv6 has 1280 everywhere."""
    if version == 6:
        pytest.skip("no path of IPv6 takes less than 1280 bytes")
    wire = make(mtu_probing="blackhole")
    path = Path(wire, 600)
    keep, text = writer(path, 50_000)
    path.run(120, keep)
    assert path.data == text
    assert wire.engine.stats()["tcp_mtu_black_holes"] == 2
    assert path.peer.conn.mss <= 560
    finish(path)


def test_black_hole_when_it_is_off(make):
    wire = make(mtu_probing="off")
    path = Path(wire, 1300)
    keep, _ = writer(path, 10_000)
    path.run(30, keep)
    assert path.data == b""
    finish(path)


def test_timeouts_of_short_segments_say_nothing(make, version):
    wire = make(mtu_probing="blackhole")
    path = Path(wire, 10)
    path.peer.conn.send(b"x" * 500)
    path.run(30)
    assert wire.engine.stats()["tcp_mtu_black_holes"] == 0
    assert path.peer.conn.mss == 1500 - headers(version)
    finish(path)


def test_the_search_is_made_again(make, version):
    """A path that takes more than before is noticed after `mtu_probing_interval`."""
    wire = make(mtu_probing="always", mtu_probing_interval=20)
    path = Path(wire, 1350)
    keep, _ = writer(path, 1_000_000)
    path.run(3, keep)
    assert path.peer.conn.mss <= 1350 - headers(version)
    path.mtu = 1500
    keep, _ = writer(path, 200_000)
    path.run(3, keep)
    assert path.peer.conn.mss <= 1350 - headers(version)
    path.run(20)
    keep, _ = writer(path, 1_000_000)
    path.run(3, keep)
    assert path.peer.conn.mss > 1492 - headers(version)
    finish(path)


def test_the_base_is_a_setting(make, version):
    wire = make(mtu_probing="always", mtu_probing_base=1300)
    assert enter(wire, ESTABLISHED, options=OFFER).conn.mss == 1300


def test_the_peers_mss_bounds_it(make):
    wire = make(mtu_probing="always")
    assert enter(wire, ESTABLISHED, options=opt_mss(900)).conn.mss == 900


def test_timestamps_take_their_part(make, version):
    wire = make(mtu_probing="always")
    peer = enter(wire, ESTABLISHED, options=OFFER + opt_timestamps(1, 0))
    assert peer.conn.mss == (1024 if version == 4 else 1208)


def test_reported_mtu_ends_after_ten_minutes(make, version):
    """RFC 1191 §6.3, RFC 8201 §5.3: and a connection that exists tries larger segments again."""
    wire = make()
    peer = enter(wire, ESTABLISHED, options=opt_mss(1460))
    peer.write(b"x" * 1400)
    quote = peer.expect(ACK, size=1400)
    if version == 4:
        peer.icmp(3, 4, 1300, quote=quote)
    else:
        peer.icmp(2, 0, 1300, quote=quote)
    wire.sent.clear()
    peer.rcv = quote.seq + 1400
    peer.send(ACK)
    assert peer.conn.mss == 1300 - headers(version)
    wire.advance(599)
    peer.write(b"x")
    peer.expect(ACK, size=1)
    peer.send(ACK)
    assert peer.conn.mss == 1300 - headers(version)
    wire.advance(2)
    peer.write(b"y" * 1440)
    peer.expect(ACK, size=1440)
    peer.send(ACK)
    assert peer.conn.mss == 1500 - headers(version)


def test_reported_mtu_is_for_every_connection_to_that_address(wire, version):
    first = enter(wire, ESTABLISHED, options=opt_mss(1460))
    second = enter_other(wire)
    first.write(b"x" * 1400)
    quote = first.expect(ACK, size=1400)
    if version == 4:
        first.icmp(3, 4, 1300, quote=quote)
    else:
        first.icmp(2, 0, 1300, quote=quote)
    wire.sent.clear()
    mss = 1300 - headers(version)
    second.write(b"y" * 1400)
    second.expect(ACK, size=mss)
    second.expect(ACK, size=1400 - mss)
    first.do("abort")
    wire.sent.clear()


def enter_other(wire):
    peer = Peer(wire, port=40001)
    peer.connect(opt_mss(1460))
    peer.conn.nodelay = True
    return peer
