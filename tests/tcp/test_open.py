"""OPEN: passive, active, simultaneous (RFC 9293 §3.5, §3.10.1)."""
import pytest

import iip
from iip import Reason
from tests.harness.packets import ACK, FIN, RST, SYN, opt_mss, opt_wscale
from tests.harness.peer import Peer
from tests.harness.states import ESTABLISHED, SYN_RCVD, SYN_SENT


def test_passive(wire):
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.syn(opt_mss(1400) + opt_wscale(3))
    peer.expect(SYN | ACK)
    assert wire.state == SYN_RCVD
    assert wire.handler.take() == []
    peer.send(ACK)
    peer.expect_nothing(60)
    assert wire.state == ESTABLISHED
    assert wire.handler.take() == [("accepted",)]
    wire.counters_are(tcp_passive_opens=1, tcp_established=1, tcp_in_segments=2, tcp_out_segments=1)
    (syn,) = wire.handler.syns
    assert (str(syn.local_address), syn.local_port) == (wire.local, 80)
    assert (str(syn.remote_address), syn.remote_port) == (wire.remote, 40000)
    assert (syn.mss, syn.window_scale, syn.sack, syn.timestamps) == (1400, True, False, False)
    assert (str(peer.conn.local[0]), peer.conn.local[1]) == (wire.local, 80)
    assert (str(peer.conn.remote[0]), peer.conn.remote[1]) == (wire.remote, 40000)


def test_active(wire):
    peer = Peer(wire)
    peer.called()
    assert wire.state == SYN_SENT
    peer.answer()
    peer.expect_nothing(60)
    assert wire.state == ESTABLISHED
    assert wire.handler.take() == [("connected",)]
    wire.counters_are(tcp_active_opens=1, tcp_established=1, tcp_in_segments=1, tcp_out_segments=2)


def test_active_data_waits_for_the_handshake(wire):
    peer = Peer(wire)
    peer.called()
    assert peer.conn.send(b"early") == 5
    wire.run()
    peer.expect_nothing()
    peer.send(SYN | ACK)
    peer.expect(ACK, data=b"early")
    peer.send(ACK)
    assert wire.handler.take() == [("connected",), ("acked", 5)]


def test_simultaneous(wire):
    """RFC 9293 §3.5, figure 8: the SYNs cross, then the SYN-ACKs do."""
    peer = Peer(wire)
    peer.called()
    peer.syn()
    again = peer.expect(SYN | ACK, seq=peer.rcv - 1)
    assert wire.state == SYN_RCVD
    peer.send(SYN | ACK, seq=peer.iss)
    assert wire.state == ESTABLISHED
    assert wire.handler.take() == [("connected",)]
    assert again.ack == peer.nxt
    wire.sent.clear()             # an ACK may or may not repeat what the SYN-ACK said
    peer.send(ACK, data=b"x")
    peer.expect(ACK)


def test_simultaneous_completed_by_a_plain_ack(wire):
    peer = Peer(wire)
    peer.called()
    peer.syn()
    peer.expect(SYN | ACK, seq=peer.rcv - 1)
    peer.send(ACK)
    peer.expect_nothing(10)
    assert wire.state == ESTABLISHED
    assert wire.handler.take() == [("connected",)]


def test_simultaneous_between_two_engines(make):
    """Both ends are ours: neither may answer the other for ever."""
    a, b = make(), make(addresses=("10.0.0.2/24", "fd00::2/64"))
    ca = a.engine.tcp_connect(a.remote, 5000, source_port=5001)
    cb = b.engine.tcp_connect(a.local, 5001, source_port=5000)
    crossed = 0
    for _ in range(10):
        a.run()
        b.run()
        to_b, to_a = [s.raw for s in a.sent], [s.raw for s in b.sent]
        a.sent.clear()
        b.sent.clear()
        crossed += len(to_a) + len(to_b)
        a.feed(*to_a, run=False)
        b.feed(*to_b, run=False)
    assert (ca.state, cb.state) == (ESTABLISHED, ESTABLISHED)
    assert crossed <= 8
    assert (a.handler.take(), b.handler.take()) == ([("connected",)], [("connected",)])


def test_refused_by_rst(wire):
    peer = Peer(wire)
    peer.called()
    peer.send(RST | ACK, seq=0)
    peer.expect_nothing(60)
    assert wire.handler.take() == [("closed", Reason.REFUSED)]
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_active_opens=1, tcp_closed=1, tcp_reset_received=1, tcp_rst_in=1, tcp_out_segments=1)


def test_accept_refuses(wire):
    """The application says no: RST, as if nobody listened."""
    wire.handler.accept = False
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.syn()
    peer.expect(RST | ACK, seq=0)
    peer.expect_nothing(60)
    assert wire.handler.take() == []
    assert wire.engine.n_connections == 0
    wire.counters_are(tcp_passive_opens=1, tcp_closed=1, tcp_in_segments=1, tcp_rst_out=1, tcp_out_segments=1,
                      tcp_not_accepted=1)


def test_accept_decides_by_the_syn(wire):
    wire.handler.accept = lambda syn: syn.remote_port == 1111
    wire.engine.tcp_listen(80)
    no, yes = Peer(wire, port=2222), Peer(wire, port=1111)
    no.syn()
    no.expect(RST | ACK, seq=0)
    yes.syn()
    yes.expect(SYN | ACK)
    yes.send(ACK)
    assert wire.handler.take() == [("accepted",)]


def test_accept_any_port(wire):
    wire.engine.tcp_listen(0)
    for port in (1, 80, 65535):
        peer = Peer(wire, port=port, local_port=port)
        peer.syn()
        peer.expect(SYN | ACK)
        peer.send(ACK)
    assert wire.handler.take() == [("accepted",)] * 3
    wire.engine.tcp_listen(0, on=False)
    late = Peer(wire, port=9, local_port=9)
    late.syn()
    late.expect(RST | ACK, seq=0)


def test_listen_off_keeps_connections(wire):
    peer = Peer(wire)
    peer.connect()
    wire.engine.tcp_listen(80, on=False)
    other = Peer(wire, port=40001)
    other.syn()
    other.expect(RST | ACK, seq=0)
    peer.send(ACK, data=b"still here")
    peer.expect(ACK)


def test_syn_with_data_and_fin(wire):
    """Text of a SYN may be left for later: the peer sends it again (RFC 9293 §3.10.7.2, third)."""
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.send(SYN, seq=peer.iss, data=b"early")
    peer.nxt = peer.iss + 1
    peer.expect(SYN | ACK)
    peer.send(ACK, data=b"early")
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"early")]


def test_syn_ack_with_data_and_fin(wire):
    """RFC 9293 §3.10.7.3, fourth: what came with the SYN is processed."""
    peer = Peer(wire)
    peer.called()
    peer.send(SYN | ACK | FIN, data=b"all at once")
    peer.expect(ACK)
    assert wire.handler.take() == [("connected",), ("payload", b"all at once"), ("shutdown",)]
    assert wire.state == iip.State.CLOSE_WAIT


def test_data_with_the_last_ack_of_the_handshake(wire):
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    peer.syn()
    peer.expect(SYN | ACK)
    peer.send(ACK | FIN, data=b"bye")
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"bye"), ("shutdown",)]


def test_initial_sequence_numbers_follow_a_clock(make):
    """RFC 6528: one connection's grow by a step every 4 us; others' are unrelated."""
    wire = make(time_wait=0)
    peer = Peer(wire)
    first = peer.called()
    peer.send(RST | ACK, seq=0)
    wire.advance(1)
    peer = Peer(wire)
    second = peer.called()
    assert (second.seq - first.seq) & 0xFFFFFFFF == 250_000
    other = Peer(wire, port=40001)
    assert abs(((other.called().seq - second.seq + 2**31) & 0xFFFFFFFF) - 2**31) > 1000
    for p in (peer, other):
        p.do("abort")


def test_connect_twice_from_one_port(wire):
    peer = Peer(wire)
    peer.called()
    with pytest.raises(iip.ConfigError, match=r"source_port=80.*exists already.*choose another"):
        wire.engine.tcp_connect(wire.remote, peer.port, source_port=80)


def test_source_ports_run_out(make):
    wire = make(ports=(5000, 5002))
    for _ in range(3):
        wire.engine.tcp_connect(wire.remote, 80)
    with pytest.raises(iip.Exhausted, match=r"no local port is free.*widen Config.ports"):
        wire.engine.tcp_connect(wire.remote, 80)
    wire.engine.tcp_connect(wire.remote, 81)
    wire.run()
    ports = sorted(s.sport for s in wire.sent if s.dport == 80)
    assert ports == [5000, 5001, 5002]
    wire.sent.clear()


BURSTS = {
    "the same SYN": ([SYN, SYN], SYN | ACK),
    "another SYN": ([SYN, (SYN, 77)], SYN | ACK),
    "RST": ([SYN, (RST, 1)], None),
    "RST and the SYN again": ([SYN, (RST, 1), SYN], SYN | ACK),
}


@pytest.mark.parametrize("burst,answer", BURSTS.values(), ids=BURSTS)
def test_burst_before_the_application_was_asked(wire, burst, answer):
    """SYN and more in one run: the application is asked once, about what is still there; another SYN is answered
    as the first, which makes its sender reset or go away."""
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    packets = []
    for item in burst:
        flags, offset = item if isinstance(item, tuple) else (item, 0)
        packets.append(peer.packet(flags, seq=peer.iss + offset))
    peer.nxt = peer.iss + 1
    wire.feed(*packets)
    if answer is None:
        peer.expect_nothing(100)
        assert wire.engine.n_connections == 0
        assert wire.handler.syns == []
        return
    peer.expect(answer)
    peer.expect_nothing()
    assert len(wire.handler.syns) == 1
    peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_guessed_ack_before_the_application_was_asked(wire):
    """An ACK of a SYN-ACK that has not left cannot be right, whatever it says."""
    wire.engine.tcp_listen(80)
    peer = Peer(wire)
    wire.feed(peer.packet(SYN), peer.packet(ACK, seq=peer.iss + 1, ack=12345))
    peer.expect(RST, seq=12345)
    peer.expect(SYN | ACK)
    peer.send(ACK)
    assert wire.state == ESTABLISHED


def test_a_whole_connection_in_one_burst(wire):
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.syn()
    peer.expect(SYN | ACK)
    wire.feed(peer.packet(ACK), peer.packet(ACK, data=b"all"), peer.packet(FIN | ACK), peer.packet(RST))
    peer.expect_nothing(100)
    # the application hears of it, but what a reset connection brought is void
    assert wire.handler.take() == [("accepted",), ("shutdown",), ("closed", Reason.RESET)]
    assert wire.engine.n_connections == 0


def test_established_and_reset_in_one_burst(wire):
    peer = Peer(wire)
    wire.engine.tcp_listen(80)
    peer.syn()
    peer.expect(SYN | ACK)
    wire.feed(peer.packet(ACK), peer.packet(RST))
    assert wire.handler.take() == [("accepted",), ("closed", Reason.RESET)]
    assert wire.engine.n_connections == 0


def test_any_address(make, version):
    """`accept_any`: a transparent proxy answers for whatever address the SYN was for."""
    wire = make(accept_any=True)
    peer = Peer(wire, local="203.0.113.5" if version == 4 else "2001:db8::5")
    peer.connect()
    assert str(wire.handler.syns[0].local_address) == peer.local
    peer.send(ACK, data=b"x")
    peer.expect(ACK)
    assert wire.handler.take() == [("accepted",), ("payload", b"x")]


def test_not_our_address(wire, version):
    wire.engine.tcp_listen(80)
    peer = Peer(wire, local="203.0.113.5" if version == 4 else "2001:db8::5")
    peer.syn()
    peer.expect_nothing(10)
    wire.counters_are(ip_not_ours=1)


def test_second_address_of_ours(make, version):
    """The answer comes from the address that was asked (RFC 9293 §3.9.2)."""
    second = "10.0.0.9" if version == 4 else "fd00::9"
    wire = make(addresses=("10.0.0.1/24", "10.0.0.9/24", "fd00::1/64", "fd00::9/64"))
    peer = Peer(wire, local=second)
    peer.connect()
    assert str(peer.conn.local[0]) == second
    conn = wire.engine.tcp_connect(wire.remote, 7, source=second, source_port=80)
    wire.run()
    other = Peer(wire, port=7, local=second)
    other.expect(SYN, ack=0)
    assert str(conn.local[0]) == second


@pytest.mark.parametrize("ttl", [64, 1, 255])
def test_ip_header(make, version, ttl):
    """The TTL of the settings (RFC 9293 §3.9.2), and "don't fragment" for path MTU discovery (RFC 1191 §6)."""
    wire = make(ttl=ttl)
    peer = Peer(wire)
    answer = peer.connect()
    assert answer.ttl == ttl
    if version == 4:
        assert answer.raw[6] >> 5 == 2
