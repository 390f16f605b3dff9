"""One device for several engines in several threads."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from iip.drivers.base cimport Driver
from iip.memory.pool cimport PacketPool
from iip.memory.ring cimport SpscRing
from iip.runtime.channel cimport Bell
from iip.runtime.worker cimport Loop

cdef enum:
    STEER_ALL = -1


cdef struct Lane:
    SpscRing rx                   # frames to the engine: a SlotHead and the bytes
    SpscRing tx                   # and from it
    uint64_t dropped              # no room: the engine does not keep up
    Bell ready                    # its descriptor is readable while frames wait


cdef struct SlotHead:
    uint32_t n
    uint32_t flags


cdef int steer(const uint8_t* frame, uint32_t n, bint ethernet, uint32_t queues) noexcept nogil


cdef class SteeringPort(Driver):
    cdef readonly Steering owner
    cdef Lane* lane


cdef class Steering(Loop):
    cdef readonly Driver inner
    cdef readonly tuple ports
    cdef Lane* lanes
    cdef uint32_t n
    cdef PacketPool pool
    cdef Bell own
    cdef int fd
    cdef bint ethernet
    cdef object _thread
    cdef uint32_t refused         # a packet that the device did not take, or NIL
    cdef int turn(self, int64_t now) noexcept nogil
    cdef void put(self, uint32_t lane, uint32_t packet) noexcept nogil
    cdef bint many(self) noexcept nogil
    cdef void wake_ports(self) noexcept nogil
