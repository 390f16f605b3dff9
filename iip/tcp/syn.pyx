"""SYN and RST: see syn.pxd."""
from iip.memory.pool cimport NIL, Packet, pkt, pkt_alloc, pkt_data, pkt_push
from iip.net.checksum cimport net_l4_checksum
from iip.net.output cimport net_output
from iip.net.route cimport net_route
from iip.net.state cimport net_tx_room
from iip.net.types cimport PROTO_TCP, Flow
from iip.tcp.ecn cimport ecn_syn_flags
from iip.tcp.rtt cimport rto_backed_off
from iip.tcp.segment cimport copy_bytes, hand_down
from iip.tcp.tcb cimport *
from iip.tcp.wheel cimport wheel_update
from iip.verdict cimport count, ok, tcp_out_segments, tcp_rst_out, tx_no_buffer
from iip.wire.bytes cimport store16, store32
from iip.wire.tcp cimport *


cdef uint32_t _syn_options(Tcp* s, Tcb* t, uint8_t* p, bint answer) noexcept nogil:
    """MSS, SACK permitted, timestamps, window scale: what we want and, in an answer, the peer offered."""
    cdef uint32_t n = 4
    cdef uint32_t mss = t.flow.mtu - TCP_HEADER - (20 if t.flow.version == 4 else 40)
    cdef bint ts = s.conf.timestamps and (not answer or t.flags & TF_TS)
    cdef bint sack = s.conf.sack and (not answer or t.flags & TF_SACK)
    cdef bint scale = s.conf.window_scale and (not answer or t.flags & TF_WSCALE)
    if s.conf.mss:
        mss = min(mss, s.conf.mss)
    store32(p, (<uint32_t>TCPOPT_MSS << 24) | (<uint32_t>4 << 16) | mss)
    if ts:
        store16(p + n, (TCPOPT_SACK_OK << 8) | 2 if sack else (TCPOPT_NOP << 8) | TCPOPT_NOP)
        store16(p + n + 2, (TCPOPT_TIMESTAMP << 8) | 10)
        store32(p + n + 4, s.ts_now + t.ts_offset)
        store32(p + n + 8, t.ts_recent if answer else 0)
        n += 12
    elif sack:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_NOP << 16) | (TCPOPT_SACK_OK << 8) | 2)
        n += 4
    if scale:
        store32(p + n, (<uint32_t>TCPOPT_NOP << 24) | (<uint32_t>TCPOPT_WSCALE << 16) | (3 << 8) | t.rcv_wscale)
        n += 4
    return n


cdef bint send_syn(Tcp* s, Tcb* t) noexcept nogil:
    """SYN, or SYN and ACK in SYN-RECEIVED. Starts the retransmission timer."""
    cdef bint answer = t.state == SYN_RCVD
    cdef uint32_t p, n, wnd
    cdef uint8_t options[40]
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return False
    if t.backoff == 0:
        t.syn_sent_at = s.now
    k = pkt(s.pool, p)
    n = _syn_options(s, t, options, answer)
    pkt_push(k, TCP_HEADER + n)
    wnd = min(t.rcv_buf, <uint32_t>65535)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.iss, t.rcv_nxt if answer else 0, TCP_HEADER + n,
                     (TH_SYN | TH_ACK if answer else TH_SYN) | ecn_syn_flags(s, t, answer), wnd)
    copy_bytes(pkt_data(k) + TCP_HEADER, options, n)
    t.snd_nxt = t.iss + 1
    t.rcv_adv = t.rcv_nxt + wnd
    t.flags &= ~<uint32_t>TF_SEND_SYN
    t.t_rto = s.now + rto_backed_off(s, t)
    wheel_update(s, t, t.t_rto)
    return hand_down(s, t, p)


cdef bint send_rst(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t p
    cdef Packet* k
    if net_tx_room(s.net) == 0:
        return False
    p = pkt_alloc(s.pool)
    if p == NIL:
        return False
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER)
    tcp_write_header(pkt_data(k), t.lport, t.rport, t.snd_nxt, t.rcv_nxt, TCP_HEADER, TH_RST | TH_ACK, 0)
    t.flags &= ~<uint32_t>TF_SEND_RST
    count(s.counters, tcp_rst_out)
    return hand_down(s, t, p)


cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil:
    """RST for a segment that belongs to no connection (RFC 9293 §3.10.7.1)."""
    cdef Flow flow
    cdef uint32_t p, space
    cdef Packet* k
    if seg.flags & TH_RST or net_tx_room(s.net) == 0:
        return
    flow.src = rx.dst
    flow.dst = rx.src
    flow.tos = 0
    flow.ttl = 0
    flow.df = 1
    flow.route_gen = 0
    if net_route(s.net, &flow) != ok:
        return
    p = pkt_alloc(s.pool)
    if p == NIL:
        count(s.counters, tx_no_buffer)
        return
    k = pkt(s.pool, p)
    pkt_push(k, TCP_HEADER)
    if seg.flags & TH_ACK:
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, seg.ack, 0, TCP_HEADER, TH_RST, 0)
    else:
        space = seg.len + (1 if seg.flags & TH_SYN else 0) + (1 if seg.flags & TH_FIN else 0)
        tcp_write_header(pkt_data(k), seg.dport, seg.sport, 0, seg.seq + space, TCP_HEADER, TH_RST | TH_ACK, 0)
    count(s.counters, tcp_rst_out)
    net_l4_checksum(s.net, &flow, p, TCP_CSUM_OFF, PROTO_TCP)
    if net_output(s.net, &flow, p, PROTO_TCP) == ok:
        count(s.counters, tcp_out_segments)
