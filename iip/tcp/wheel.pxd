"""The timer wheel: one entry per connection, at the earliest of its deadlines.

Moving a deadline later, or switching it off, touches only the connection: the wheel finds out when it gets
there, and files the connection again. Only an earlier deadline moves the entry.
"""
from libc.stdint cimport int64_t, uint32_t
from iip.tcp.tcb cimport TF_IN_WHEEL, Tcb, Tcp


cdef void wheel_init(Tcp* s) noexcept nogil
cdef void wheel_file(Tcp* s, Tcb* t, int64_t at) noexcept nogil
cdef void wheel_remove(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t wheel_pop(Tcp* s) noexcept nogil
cdef int64_t wheel_next(Tcp* s) noexcept nogil


cdef inline int64_t earliest_deadline(Tcb* t) noexcept nogil:
    return min(min(t.t_rto, t.t_misc), min(t.t_ack, t.t_idle))


cdef inline void wheel_update(Tcp* s, Tcb* t, int64_t at) noexcept nogil:
    """Deadline `at` was set."""
    if at < t.wheel_at:
        wheel_file(s, t, at)
