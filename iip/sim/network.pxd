"""Virtual time, and what happens in it: packets that arrive and nodes that wake."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.drivers.base cimport Driver
from iip.drivers.line cimport Line
from iip.drivers.queue cimport PacketQueue
from iip.engine cimport Engine
from iip.memory.pool cimport PacketPool
from iip.sim.agenda cimport Agenda


cdef struct Thing:
    void* object                  # of class Way or Node, kept alive by the network's list
    bint is_way


cdef class Network:
    cdef readonly PacketPool pool          # of the packets on the links
    cdef Agenda agenda
    cdef Thing* things
    cdef uint32_t n_things
    cdef uint32_t room
    cdef list objects
    cdef int64_t now_c                     # ns, from START
    cdef int64_t bound                     # where the present stretch ends
    cdef readonly uint64_t events          # how many things happened
    cdef object failure                    # what a callback raised
    cdef uint32_t _add(self, object thing, bint is_way) except? 0xFFFFFFFF
    cdef void fail(self, object error) noexcept
    cdef void _stretch(self) noexcept nogil


cdef class Way:
    # one direction of a link
    cdef Network network
    cdef Line line
    cdef readonly Node source
    cdef readonly Node target
    cdef uint32_t port                     # of the target at which packets arrive
    cdef uint32_t id
    cdef readonly uint32_t mtu             # bytes of an IP packet
    cdef readonly uint64_t too_long        # packets that were larger: dropped
    cdef bint captured
    cdef list captures
    cdef void admit(self, uint32_t packet, int64_t now) noexcept nogil
    cdef void arrive(self, int64_t now) noexcept nogil
    cdef void _record(self, uint32_t packet, int64_t now, int direction) noexcept


cdef class Node:
    cdef readonly Network network
    cdef readonly str name
    cdef readonly str medium
    cdef readonly list ways                # out, by port
    cdef void** out                        # the same, for C
    cdef uint32_t n_ports
    cdef uint32_t id
    cdef void receive(self, uint32_t packet, uint32_t port, int64_t now) noexcept nogil
    cdef void wake(self, int64_t now) noexcept nogil


cdef class Port(Driver):
    cdef Network network
    cdef PacketQueue inbox                 # packets of the network's pool
    cdef Way way
    cdef uint64_t unplugged                # packets sent without a link
    cdef uint64_t inbox_full
    cdef uint64_t no_buffer                # received packets for which the host's pool had no room


cdef class Host(Node):
    cdef readonly Engine engine
    cdef Port port
    cdef int64_t stalled              # until then it does not run
    cdef void _look(self) noexcept
