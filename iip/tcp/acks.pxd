"""When an acknowledgement leaves: at once, or late (RFC 9293 §3.8.6.3, RFC 5681 §4.2).

A sender's window grows with every ACK, so the first segments of a connection, those after a pause and those after a
loss are acknowledged at once. Where the application answers soon, ACKs wait for the answer.
"""
from libc.stdint cimport int64_t
from iip.tcp.tcb cimport Tcb, Tcp


cdef void acks_begin(Tcp* s, Tcb* t) noexcept nogil
cdef void acks_arrival(Tcp* s, Tcb* t) noexcept nogil
cdef void acks_quick(Tcp* s, Tcb* t) noexcept nogil
cdef bint acks_wait(Tcp* s, Tcb* t) noexcept nogil
cdef void acks_late(Tcp* s, Tcb* t) noexcept nogil


cdef inline void acks_note_arrival(Tcp* s, Tcb* t) noexcept nogil:
    """Payload came in order."""
    if s.now - t.data_rx_at > t.ato_calm:
        acks_arrival(s, t)
    t.data_rx_at = s.now
