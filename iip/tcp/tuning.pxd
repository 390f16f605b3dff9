"""Buffers that follow the path.

The receiver offers twice what its application took in the best round trip, and more while that grows: a sender
whose window doubles every round trip is never held up, and one that needs little gets little. The sender's buffer
holds two congestion windows: one in flight, one for when it is acknowledged.
"""
from libc.stdint cimport int64_t, uint32_t
from iip.tcp.tcb cimport MD_SND_FIXED, Tcb, Tcp
from iip.wire.bytes cimport unlikely
from iip.wire.tcp cimport Segment


cdef void tuning_begin(Tcp* s, Tcb* t) noexcept nogil
cdef void tuning_full_segment(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef void tuning_taken(Tcp* s, Tcb* t, uint32_t taken) noexcept nogil


cdef inline void tuning_consumed(Tcp* s, Tcb* t) noexcept nogil:
    """The application took bytes."""
    cdef uint32_t taken = t.rcv_nxt - t.rcv_buffered - t.tune_seq
    if unlikely(taken > t.tune_space):
        tuning_taken(s, t, taken)


cdef inline void tuning_send(Tcp* s, Tcb* t) noexcept nogil:
    """The application wants to send more than there is room for."""
    cdef uint32_t most = s.conf.send_buffer_max
    if not t.modes & MD_SND_FIXED and t.snd_buf < most:
        t.snd_buf = max(t.snd_buf, min(most, 2 * min(t.cwnd, <uint32_t>0x3FFFFFFF)))
