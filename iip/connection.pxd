"""The connection object of Python applications."""
from libc.stdint cimport int64_t, uint64_t
from iip.engine cimport Engine
from iip.tcp.tcb cimport Tcb


cdef class Connection:
    cdef readonly Engine engine
    cdef readonly uint64_t handle
    cdef public object context
    cdef object _local
    cdef object _remote
    cdef object _reason
    cdef Tcb* tcb(self) except NULL
    cdef void release(self)
    cdef int _set(self, int option, object value, str name, object unit) except -1
    cdef int _set_time(self, int option, object seconds, str name) except -1
    cdef object _time(self, int option)
    cdef int64_t _get(self, int option) except? -1
    cdef object _taken(self, Tcb* t, int64_t taken)


cdef Connection connection_new(Engine engine, uint64_t handle)
