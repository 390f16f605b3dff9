"""Handlers written in Python."""
from libc.stdint cimport uint64_t
from iip.engine cimport Engine, NativeHandler, SynInfo
from iip.payload cimport Payload

cdef object bound(object user, str name)
cdef object syn_object(const SynInfo* syn)


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
    cdef object on_router
    cdef Payload spare             # of the last callback, when nobody kept it
    cdef object conn(self, Engine engine, uint64_t handle)
    cdef void failed(self, Engine engine, object error)
