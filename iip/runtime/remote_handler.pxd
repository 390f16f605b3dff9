"""Handlers and connections of Python programs in another thread than the engine."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from iip.engine cimport Engine
from iip.handler cimport PythonHandler
from iip.memory.pool cimport PacketPool
from iip.net.types cimport Addr


cdef class Returned:
    # of one engine; the GIL protects it
    cdef object packets
    cdef bint over                # no thread uses the pool any more
    cdef PacketPool pool
    cdef void give(self, uint32_t packet)


cdef class RemoteHandler(PythonHandler):
    cdef readonly Returned returned
    cdef void collect(self, Engine engine) noexcept


cdef object far_connection(Engine engine, uint64_t conn, const Addr* local, uint16_t local_port, const Addr* remote,
                           uint16_t remote_port)
