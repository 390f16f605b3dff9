"""Congestion control, pluggable: a table of functions per algorithm."""
from libc.stdint cimport uint32_t, uint64_t
from iip.tcp.tcb cimport CongestionOps, Tcb, Tcp


cdef const CongestionOps* congestion_find(object name) except NULL
cdef uint32_t initial_window(Tcp* s, Tcb* t) noexcept nogil
