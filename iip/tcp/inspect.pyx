"""A snapshot of connections: see inspect.pxd."""
import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from iip.memory.slab cimport slab_live
from iip.tcp.tcb cimport TF_PASSIVE, TF_SACK, TF_TS, Tcb, tcb, tcb_handle, tcp_in_flight

cdef packed struct Row:
    uint8_t local[16]
    uint8_t remote[16]
    uint16_t local_port
    uint16_t remote_port
    uint8_t state
    uint8_t passive
    uint8_t sack
    uint8_t timestamps
    uint8_t snd_wscale
    uint8_t rcv_wscale
    uint8_t dup_acks
    uint8_t backoff
    uint64_t handle
    uint32_t iss
    uint32_t irs
    uint32_t snd_una
    uint32_t snd_nxt
    uint32_t snd_wnd
    uint32_t rcv_nxt
    uint32_t rcv_wnd
    uint32_t cwnd
    uint32_t ssthresh
    uint32_t in_flight
    uint32_t unsent
    uint32_t rcv_buffered
    uint32_t out_of_order
    uint32_t mss
    uint32_t mtu
    uint32_t retransmits
    int64_t srtt
    int64_t rttvar
    int64_t rto
    uint64_t bytes_acked
    uint64_t bytes_received


ROW = np.dtype([
    ("local", "V16"), ("remote", "V16"), ("local_port", "u2"), ("remote_port", "u2"), ("state", "u1"),
    ("passive", "u1"), ("sack", "u1"), ("timestamps", "u1"), ("snd_wscale", "u1"), ("rcv_wscale", "u1"),
    ("dup_acks", "u1"), ("backoff", "u1"), ("handle", "u8"), ("iss", "u4"), ("irs", "u4"), ("snd_una", "u4"),
    ("snd_nxt", "u4"), ("snd_wnd", "u4"), ("rcv_nxt", "u4"), ("rcv_wnd", "u4"), ("cwnd", "u4"), ("ssthresh", "u4"),
    ("in_flight", "u4"), ("unsent", "u4"), ("rcv_buffered", "u4"), ("out_of_order", "u4"), ("mss", "u4"),
    ("mtu", "u4"), ("retransmits", "u4"), ("srtt", "i8"), ("rttvar", "i8"), ("rto", "i8"), ("bytes_acked", "u8"),
    ("bytes_received", "u8")])


cdef void _fill(Tcp* s, Tcb* t, Row* r) noexcept nogil:
    memcpy(r.local, &t.flow.src, 16)
    memcpy(r.remote, &t.flow.dst, 16)
    r.local_port, r.remote_port = t.lport, t.rport
    r.state = t.state
    r.passive = (t.flags & TF_PASSIVE) != 0
    r.sack = (t.flags & TF_SACK) != 0
    r.timestamps = (t.flags & TF_TS) != 0
    r.snd_wscale, r.rcv_wscale = t.snd_wscale, t.rcv_wscale
    r.dup_acks, r.backoff = t.dup_acks, t.backoff
    r.handle = tcb_handle(t)
    r.iss, r.irs = t.iss, t.irs
    r.snd_una, r.snd_nxt, r.snd_wnd = t.snd_una, t.snd_nxt, t.snd_wnd
    r.rcv_nxt, r.rcv_wnd = t.rcv_nxt, t.rcv_adv - t.rcv_nxt
    r.cwnd, r.ssthresh, r.in_flight = t.cwnd, t.ssthresh, tcp_in_flight(t)
    r.unsent, r.rcv_buffered, r.out_of_order = t.unsent, t.rcv_buffered, t.n_ooo
    r.mss, r.mtu, r.retransmits = t.mss, t.flow.mtu, t.n_retransmits
    r.srtt, r.rttvar, r.rto = t.srtt, t.rttvar, t.rto
    r.bytes_acked, r.bytes_received = t.bytes_acked, t.bytes_received


cdef object tcp_snapshot(Tcp* s):
    """A structured array of dtype `ROW`, one row a connection. Addresses are 16 raw bytes (IPv4 mapped,
    see `iip.address.unpack`), times ns, sizes bytes, sequence numbers as in RFC 9293 §3.3.1."""
    cdef uint32_t i, n = 0
    cdef uint8_t[::1] rows
    for i in range(s.tcbs.high_water):
        n += slab_live(s.tcbs, i)
    out = np.zeros(n, dtype=ROW)
    if ROW.itemsize != sizeof(Row):
        raise SystemError("the dtype of the snapshot does not match its struct")
    if n:
        rows = out.view(np.uint8)
        n = 0
        for i in range(s.tcbs.high_water):
            if slab_live(s.tcbs, i):
                _fill(s, tcb(s, i), <Row*>&rows[n * sizeof(Row)])
                n += 1
    return out
