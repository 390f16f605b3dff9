"""Loss detection by time, RACK-TLP (RFC 8985)."""
from libc.stdint cimport int64_t
from iip.memory.pool cimport REC_EVER_RETRANS, Packet
from iip.tcp.tcb cimport Tcb, Tcp, rec_space
from iip.wire.bytes cimport unlikely
from iip.wire.seq cimport seq_gt


cdef inline void rack_delivered(Tcp* s, Tcb* t, Packet* k) noexcept nogil:
    """RFC 8985 §6.2 step 2: remember the latest sent record that arrived. A retransmission acknowledged sooner
    than any round trip was the original."""
    cdef int64_t rtt = s.now - k.sent_at
    if unlikely(k.flags & REC_EVER_RETRANS) and rtt < t.min_rtt:
        return
    if k.sent_at > t.rack_xmit or (k.sent_at == t.rack_xmit and seq_gt(k.seq + rec_space(k), t.rack_end)):
        t.rack_xmit = k.sent_at
        t.rack_end = k.seq + rec_space(k)
        t.rack_rtt = rtt


cdef bint rack_detect(Tcp* s, Tcb* t) noexcept nogil
cdef void arm_timer(Tcp* s, Tcb* t) noexcept nogil
cdef void arm_after_sending(Tcp* s, Tcb* t) noexcept nogil
cdef void rack_dsack(Tcb* t) noexcept nogil
