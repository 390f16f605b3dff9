"""Received bytes as Python sees them."""
from libc.stdint cimport uint8_t, uint32_t
from iip.memory.pool cimport PacketPool


cdef class Payload:
    cdef const uint8_t* data
    cdef Py_ssize_t size
    cdef PacketPool pool          # set once the payload holds a packet of its own
    cdef uint32_t packet
    cdef void keep(self, PacketPool pool, uint32_t packet)


cdef Payload payload_new(const uint8_t* data, Py_ssize_t n)
