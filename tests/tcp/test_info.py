"""`Connection.info`: what Linux calls tcp_info, and whether it is true."""
from dataclasses import fields

import iip
from tests.harness.packets import ACK, FIN, PSH, opt_mss, opt_sack, opt_sack_permitted, opt_timestamps, opt_wscale
from tests.harness.states import ESTABLISHED, enter

MSS = 1000
OFFER = opt_mss(MSS) + opt_sack_permitted()


def info(peer):
    return peer.conn.info()


def test_every_field_is_filled(wire):
    peer = enter(wire, ESTABLISHED, options=OFFER + opt_wscale(3) + opt_timestamps(1, 0))
    found = info(peer)
    assert all(isinstance(getattr(found, f.name), int) for f in fields(found))
    assert (found.state, found.ca_state, found.options, found.snd_wscale) == (1, 0, 7, 3)
    assert (found.snd_mss, found.advmss, found.pmtu) == (MSS - 12, 1460 if wire.version == 4 else 1440, 1500)


def test_counts(wire):
    """Segments and bytes, both ways; the handshake counts as segments."""
    peer = enter(wire, ESTABLISHED, options=OFFER)
    before = info(peer)
    peer.send(ACK, data=b"x" * 700)
    peer.expect(ACK)
    peer.write(b"y" * 2500)
    peer.expect(ACK, size=MSS)
    peer.expect(ACK, size=MSS)
    peer.send(ACK)
    peer.expect(PSH | ACK, size=500)
    now = info(peer)
    assert now.segs_in - before.segs_in == 2
    assert now.segs_out - before.segs_out == 4
    assert (now.data_segs_in, now.data_segs_out) == (1, 3)
    assert (now.bytes_received, now.bytes_sent, now.bytes_acked, now.bytes_retrans) == (700, 2500, 2000, 0)
    assert (now.unacked, now.delivered, now.rcv_mss) == (1, 2, 700)
    wire.advance_to_output()
    wire.sent.clear()
    later = info(peer)
    assert (later.bytes_retrans, later.total_retrans, later.bytes_sent) == (500, 1, 3000)
    peer.send(ACK)
    assert info(peer).delivered == 3


def test_times(wire):
    peer = enter(wire, ESTABLISHED, options=OFFER)
    peer.send(ACK, data=b"x")
    peer.expect(ACK)
    wire.advance(2)
    peer.write(b"y")
    peer.expect(ACK, data=b"y")
    wire.advance(0.1)
    peer.send(ACK)
    wire.advance(1)
    found = info(peer)
    assert (found.last_data_recv, found.last_data_sent, found.last_ack_recv) == (3100, 1100, 1000)
    assert found.busy_time == 100_000


def test_limited_by_the_peers_window(wire):
    peer = enter(wire, ESTABLISHED, options=OFFER)
    peer.send(ACK, wnd=2 * MSS)
    peer.write(b"x" * 5 * MSS)
    wire.sent.clear()
    peer.rcv += 2 * MSS
    wire.advance(0.1)
    assert info(peer).rwnd_limited == 100_000
    peer.send(ACK, wnd=10 * MSS)
    wire.sent.clear()
    wire.advance(0.1)
    found = info(peer)
    assert (found.rwnd_limited, found.sndbuf_limited, found.busy_time) == (100_000, 0, 200_000)
    wire.sent.clear()


def test_limited_by_the_send_buffer(make):
    wire = make(send_buffer=3 * MSS)
    peer = enter(wire, ESTABLISHED, options=OFFER)
    assert peer.conn.send(b"x" * 5 * MSS) == 3 * MSS
    wire.run()
    wire.sent.clear()
    wire.advance(0.1)
    assert info(peer).sndbuf_limited == 100_000
    peer.rcv += 3 * MSS
    peer.send(ACK)
    peer.write(b"x" * MSS)
    wire.advance(0.1)
    wire.sent.clear()
    assert info(peer).sndbuf_limited == 100_000


def test_gaps_and_duplicates(wire):
    peer = enter(wire, ESTABLISHED, options=OFFER)
    first = peer.nxt
    peer.send(ACK, data=b"x" * 10, seq=first + 10)
    peer.expect(ACK, ack=first)
    peer.send(ACK, data=b"x" * 10, seq=first)
    peer.nxt = first + 20
    peer.expect(ACK)
    assert info(peer).rcv_ooopack == 1
    peer.write(b"y" * 100)
    peer.expect(ACK, size=100)
    peer.send(ACK, options=opt_sack((peer.rcv - 100, peer.rcv)))
    assert info(peer).dsack_dups == 1


def test_until_the_end(wire):
    """Also of a connection on its way out."""
    peer = enter(wire, ESTABLISHED, options=OFFER)
    peer.do("shutdown")
    peer.expect(FIN | ACK)
    found = info(peer)
    assert (found.state, found.bytes_sent, found.unacked) == (4, 0, 1)
    assert isinstance(found, iip.TcpInfo)
