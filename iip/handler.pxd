"""Handlers written in Python."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from iip.connection cimport Connection
from iip.engine cimport Datagram as CDatagram, Engine, NativeHandler, SynInfo
from iip.net.state cimport NetEvent


cdef class PythonHandler(NativeHandler):
    cdef object on_accept
    cdef object on_accepted
    cdef object on_connected
    cdef object on_payload
    cdef object on_acked
    cdef object on_shutdown
    cdef object on_closed
    cdef object on_udp
    cdef object on_icmp_reply
    cdef object on_icmp_error
    cdef object on_arp_reply
    cdef object on_conflict
    cdef Connection conn(self, Engine engine, uint64_t handle)
    cdef void failed(self, Engine engine, object error)
    cdef bint _accept(self, Engine engine, const SynInfo* syn) noexcept
    cdef void _event(self, Engine engine, uint64_t conn, object method) noexcept
    cdef void _payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept
    cdef void _acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept
    cdef void _closed(self, Engine engine, uint64_t handle, int reason) noexcept
    cdef void _udp(self, Engine engine, const CDatagram* d) noexcept
    cdef void _net_event(self, Engine engine, NetEvent* e) noexcept
