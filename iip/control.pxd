"""Congestion control written in Python."""
from iip.engine cimport Engine
from iip.tcp.tcb cimport Tcb


cdef class CongestionControl:
    cdef Engine engine
    cdef Tcb* t
    cdef Tcb* tcb(self) except NULL


cdef object congestion_get(Tcb* t)
cdef int congestion_set(Engine engine, Tcb* t, object algorithm) except -1
