"""What is known about one connection: see info.pxd."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from iip.memory.pool cimport NIL, REC_LOST, REC_RETRANS, REC_SACKED, Packet, pkt
from iip.tcp.accecn cimport BYTES_CE, BYTES_ECT_0, BYTES_ECT_1, OPTION_MANGLED
from iip.tcp.rate cimport rate_start
from iip.tcp.tcb cimport *

cdef enum:
    INFINITE_SSTHRESH = 0x7FFFFFFF
    NEVER = 0x7FFFFFFF            # of tune_space: the receive buffer is fixed
    # accecn_fail_mode
    FAIL_ACE_RECV = 2
    FAIL_OPT_RECV = 8


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


cdef int64_t _ms_since(Tcp* s, int64_t at) noexcept:
    return (s.now - at) // 1000000


cdef int64_t _waited(Tcp* s, Tcb* t, int by) noexcept:
    """us that sending was limited, what goes on now included."""
    cdef Limits* limit = limits(s, t)
    if not t.modes & MD_LIMITED:
        return 0
    return ((limit.rwnd if by == LIM_WINDOW else limit.sndbuf) + (s.now - limit.at if t.limited_by == by else 0)) // 1000


cdef dict _ecn(Tcp* s, Tcb* t):
    """By Linux's names: what was marked, of packets and of payload, and what became of accurate ECN."""
    cdef AccEcn* a = accecn(s, t)
    cdef AccEcn none
    if t.state <= SYN_SENT or not t.ecn & (ECN_OK | ECN_ACCURATE):
        memset(&none, 0, sizeof(AccEcn))
        a = &none
    return {
        "delivered_ce": a.delivered, "received_ce": a.received,
        "delivered_e1_bytes": a.delivered_bytes[BYTES_ECT_1], "delivered_e0_bytes": a.delivered_bytes[BYTES_ECT_0],
        "delivered_ce_bytes": a.delivered_bytes[BYTES_CE], "received_e1_bytes": a.received_bytes[BYTES_ECT_1],
        "received_e0_bytes": a.received_bytes[BYTES_ECT_0], "received_ce_bytes": a.received_bytes[BYTES_CE],
        "ecn_mode": (3 if t.state == SYN_SENT and t.ecn & ECN_ASKED else 2 if t.ecn & ECN_ACCURATE
                     else 1 if t.ecn & ECN_OK else 0),
        "accecn_opt_seen": 0 if a.option == 0 else 1 if a.option == OPTION_MANGLED else 2,
        "accecn_fail_mode": ((FAIL_ACE_RECV if t.ecn & ECN_DEAF and t.ecn & ECN_ACCURATE else 0)
                             | (FAIL_OPT_RECV if a.option == OPTION_MANGLED else 0)),
    }


cdef dict _receiving(Tcp* s, Tcb* t):
    return {
        "ato": t.ato // 1000, "rcv_mss": t.rcv_mss, "rcv_wscale": t.rcv_wscale, "rcv_ssthresh": t.rcv_buf,
        "rcv_rtt": t.rcv_rtt // 1000, "rcv_space": t.tune_space if t.tune_space < NEVER else t.rcv_buf,
        "rcv_wnd": max(0, <int64_t><int>(t.rcv_adv - t.rcv_nxt)), "rcv_ooopack": t.n_ooo_in,
        "bytes_received": t.bytes_received, "segs_in": t.segs_in, "data_segs_in": t.data_segs_in,
        "last_data_recv": _ms_since(s, t.data_rx_at), "last_ack_recv": _ms_since(s, t.last_rx),
    }


cdef dict _sending(Tcp* s, Tcb* t):
    """What the records in flight do not tell."""
    cdef uint32_t mss = max(t.mss, <uint32_t>1), headers = 40 if t.flow.version == 4 else 60
    cdef uint64_t out = t.snd_nxt - t.snd_una
    if out and (t.state == SYN_SENT or t.state == SYN_RCVD or t.flags & TF_FIN_SENT):
        out -= 1                  # a SYN or a FIN
    return {
        "snd_wscale": t.snd_wscale, "rto": t.rto // 1000, "snd_mss": t.mss, "pmtu": t.flow.mtu,
        "rtt": t.srtt // 1000, "rttvar": t.rttvar // 1000,
        "snd_ssthresh": INFINITE_SSTHRESH if t.ssthresh >= INFINITE_SSTHRESH else max(1, t.ssthresh // mss),
        "snd_cwnd": t.cwnd // mss if t.cwnd else s.conf.initial_window,
        "advmss": min(t.flow.mtu - headers, s.conf.mss) if s.conf.mss else t.flow.mtu - headers,
        "snd_wnd": t.snd_wnd, "notsent_bytes": t.unsent, "total_retrans": t.n_retransmits, "bytes_acked": t.bytes_acked,
        "bytes_sent": t.bytes_acked + out + t.bytes_retrans, "bytes_retrans": t.bytes_retrans, "segs_out": t.segs_out,
        "data_segs_out": t.data_segs_out, "last_data_sent": _ms_since(s, t.last_data), "last_ack_sent": 0,
        "busy_time": (t.busy + (s.now - t.busy_at if t.busy_at else 0)) // 1000,
        "rwnd_limited": _waited(s, t, LIM_WINDOW),
        "sndbuf_limited": _waited(s, t, LIM_BUFFER),
        "dsack_dups": t.n_dsack, "reord_seen": t.reo_seen, "reordering": 3, "fackets": 0, "rehash": 0,
    }


cdef dict tcp_info(Tcp* s, Tcb* t):
    """See `iip.TcpInfo`. Walks what is in flight; delivery rates are measured from the first call on."""
    cdef uint32_t i = t.rtx_head, unacked = 0, sacked = 0, lost = 0, retrans = 0
    cdef uint32_t mss = max(t.mss, <uint32_t>1)
    cdef Packet* k
    rate_start(s, t)
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
    # every segment that is neither in flight nor a repetition arrived
    delivered = t.data_segs_out - min(t.data_segs_out, t.n_retransmits + unacked - sacked)
    if t.flags & TF_SACK == 0:
        sacked = (t.sacked + mss - 1) // mss
    if t.state in (SYN_SENT, SYN_RCVD) and t.snd_nxt != t.snd_una:
        unacked = 1
    return {
        "state": _state(t.state), "ca_state": _phase(t), "retransmits": 0 if t.flags & TF_PERSIST else t.backoff,
        "probes": t.probes, "backoff": t.backoff,
        "options": ((1 if t.flags & TF_TS else 0) | (2 if t.flags & TF_SACK else 0) | (4 if t.flags & TF_WSCALE else 0)
                    | (8 if t.ecn & (ECN_OK | ECN_ACCURATE) and t.state > SYN_SENT else 0)),
        "unacked": unacked, "sacked": sacked, "lost": lost, "retrans": retrans, "delivered": delivered,
        "delivery_rate": <uint64_t>t.rate_bytes * 1000000000 // <uint64_t>t.rate_interval if t.rate_interval else 0,
        "delivery_rate_app_limited": bool(t.app_limited),
        "pacing_rate": t.pacing_rate if t.cc_mode & CC_PACED else 0, "max_pacing_rate": t.max_pacing_rate,
        "min_rtt": t.min_rtt // 1000, **_sending(s, t), **_receiving(s, t), **_ecn(s, t),
    }
