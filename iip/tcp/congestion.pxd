"""Congestion control, pluggable: a table of functions per algorithm (`CongestionOps`), found by its name."""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport Packet
from iip.tcp.tcb cimport CongestionOps, Tcb, Tcp


cdef const CongestionOps* congestion_find(object name) except NULL
cdef const CongestionOps* congestion_named(const char* name) noexcept nogil
cdef void congestion_objects(const CongestionOps* ops) noexcept
cdef int congestion_register(const CongestionOps* ops) except -1
cdef void congestion_sent(Tcp* s, Tcb* t, Packet* k) noexcept nogil
cdef void congestion_after_idle(Tcp* s, Tcb* t) noexcept nogil
cdef void congestion_start(Tcp* s, Tcb* t) noexcept nogil
cdef void congestion_switch(Tcp* s, Tcb* t, const CongestionOps* ops, void* object) noexcept nogil
cdef void congestion_release(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t initial_window(Tcp* s, Tcb* t) noexcept nogil
