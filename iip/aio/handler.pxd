"""The engine's callbacks for asyncio transports."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from cpython.buffer cimport Py_buffer
from iip.engine cimport Engine
from iip.handler cimport PythonHandler


cdef class Sink:
    cdef public object transport
    cdef public object data_received   # of a plain protocol; None: it is a buffered one
    cdef public object get_buffer
    cdef public object buffer_updated
    cdef public bint blocked
    cdef public bint held
    cdef public bint over


cdef class StreamHandler(PythonHandler):
    cdef object chunk                  # being filled: a bytes object, or what get_buffer gave
    cdef Py_buffer view                # of the latter
    cdef uint8_t* out                  # where it is,
    cdef uint32_t size                 # its bytes; 0: none is being filled
    cdef uint32_t done                 # and how many are there
    cdef uint32_t ahead                # bytes that come in this pass for the same connection, from the chunk's first on
    cdef int begin(self, Sink sink) except -1
    cdef int complete(self, Sink sink) except -1
    cdef int gather(self, Engine engine, uint64_t handle, Sink sink, const uint8_t* data, uint32_t n) except -1
