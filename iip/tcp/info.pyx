"""What is known about one connection: see info.pxd."""
from libc.stdint cimport int64_t, uint32_t
from iip.memory.pool cimport NIL, REC_LOST, REC_RETRANS, REC_SACKED, Packet, pkt
from iip.tcp.tcb cimport *

cdef enum:
    INFINITE_SSTHRESH = 0x7FFFFFFF


cdef int _state(int state) noexcept:
    """Linux's number of a state (net/tcp_states.h)."""
    if state == ESTABLISHED:
        return 1
    if state == SYN_SENT:
        return 2
    if state == SYN_RCVD:
        return 3
    if state == FIN_WAIT_1:
        return 4
    if state == FIN_WAIT_2:
        return 5
    if state == TIME_WAIT:
        return 6
    if state == CLOSE_WAIT:
        return 8
    if state == LAST_ACK:
        return 9
    if state == CLOSING:
        return 11
    return 7


cdef int _phase(Tcb* t) noexcept:
    """Of congestion avoidance: open, disorder, recovery or loss."""
    if t.flags & TF_LOSS:
        return 4
    if t.flags & TF_RECOVERY:
        return 3
    return 1 if t.sacked or t.dup_acks else 0


cdef dict tcp_info(Tcp* s, Tcb* t):
    """See `iip.TcpInfo`. Walks what is in flight."""
    cdef uint32_t i = t.rtx_head, unacked = 0, sacked = 0, lost = 0, retrans = 0, mss = max(t.mss, <uint32_t>1)
    cdef uint32_t headers = 40 if t.flow.version == 4 else 60
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        unacked += k.segs
        if k.flags & REC_SACKED:
            sacked += k.segs
        elif k.flags & (REC_LOST | REC_RETRANS):
            lost += k.segs
        if k.flags & REC_RETRANS:
            retrans += k.segs
        i = k.qnext
    if t.flags & TF_SACK == 0:
        sacked = (t.sacked + mss - 1) // mss
    if t.state in (SYN_SENT, SYN_RCVD) and t.snd_nxt != t.snd_una:
        unacked = 1
    return {
        "state": _state(t.state), "ca_state": _phase(t), "retransmits": 0 if t.flags & TF_PERSIST else t.backoff,
        "probes": t.probes, "backoff": t.backoff,
        "options": (1 if t.flags & TF_TS else 0) | (2 if t.flags & TF_SACK else 0) | (4 if t.flags & TF_WSCALE else 0),
        "snd_wscale": t.snd_wscale, "rcv_wscale": t.rcv_wscale, "rto": t.rto // 1000,
        "ato": s.conf.delayed_ack // 1000, "snd_mss": t.mss, "unacked": unacked, "sacked": sacked, "lost": lost,
        "retrans": retrans, "last_data_sent": (s.now - t.last_tx) // 1000000,
        "last_ack_recv": (s.now - t.last_rx) // 1000000, "pmtu": t.flow.mtu, "rcv_ssthresh": t.rcv_buf,
        "rtt": t.srtt // 1000, "rttvar": t.rttvar // 1000,
        "snd_ssthresh": INFINITE_SSTHRESH if t.ssthresh >= INFINITE_SSTHRESH else max(1, t.ssthresh // mss),
        "snd_cwnd": t.cwnd // mss if t.cwnd else s.conf.initial_window,
        "advmss": min(t.flow.mtu - headers, s.conf.mss) if s.conf.mss else t.flow.mtu - headers, "reordering": 3,
        "rcv_space": t.rcv_buf, "total_retrans": t.n_retransmits, "bytes_acked": t.bytes_acked,
        "bytes_received": t.bytes_received, "notsent_bytes": t.unsent, "snd_wnd": t.snd_wnd,
        "rcv_wnd": max(0, <int64_t><int>(t.rcv_adv - t.rcv_nxt)), "rcv_ooopack": t.n_ooo,
    }
