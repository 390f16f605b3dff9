"""The application thread's side of an engine in another thread."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.engine cimport Engine, NativeHandler
from iip.memory.pool cimport Pool
from iip.net.types cimport Addr
from iip.runtime.channel cimport Channel, Link, Tell, Writer

cdef enum:
    FAR_OPEN = 1                  # established
    FAR_SHUT = 2                  # shut down: nothing more to send
    FAR_CLOSED = 4                # closed: the application hears of its end only
    FAR_STARVED = 8               # on the list of those whose send came short for want of packets


cdef struct Far:
    # what the application's thread knows of a connection: one cache line
    uint64_t handle               # 0: none
    uint64_t user
    void* object
    uint32_t limit                # bytes that may be queued or unacknowledged
    uint32_t queued
    uint32_t next                 # in the list of the starved, or of free names
    uint32_t generation           # of names that this side gives
    uint16_t mss
    uint16_t flags
    uint8_t pad[20]


cdef class Remote(Engine):
    cdef readonly Link link
    cdef readonly object handler
    cdef NativeHandler app
    cdef Channel* c
    cdef Writer out
    cdef Pool* packets
    cdef Far* far
    cdef uint32_t base            # names from here on are ours: the index of a connection we opened
    cdef uint32_t free_name
    cdef uint32_t next_name
    cdef uint32_t starved
    cdef uint32_t consumed        # of the packet at hand
    cdef const Tell* at           # the event at hand
    cdef bint kept                # somebody kept the payload: its packet is given back later
    cdef readonly uint32_t n_connections
    cdef readonly uint64_t events
    cdef int turn(self) noexcept nogil
    cdef void one(self, const Tell* t) noexcept nogil
    cdef Far* find(self, uint64_t conn) noexcept nogil
    cdef void ask(self, int kind, uint64_t conn, uint32_t packet, uint32_t n, int64_t value) noexcept nogil
    cdef void give_back(self, int kind, uint64_t conn, uint32_t packet) noexcept nogil
    cdef uint32_t cell(self) noexcept nogil
    cdef void feed(self) noexcept nogil
    cdef bint call_packet(self, int kind, uint64_t conn, const Addr* remote, uint16_t port, const Addr* source,
                          uint16_t source_port, const uint8_t* data, uint32_t n, uint8_t ttl, uint8_t tos) noexcept nogil
