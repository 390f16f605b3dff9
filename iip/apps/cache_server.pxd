"""The clients of a cache server: lines and values come in, answers go out, and what they do not read yet waits."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from iip.apps.cache cimport Cache, Item
from iip.engine cimport Engine, NativeHandler

cdef enum:
    MAX_LINE = 8192
    OUT = 16384
    REPLY = 512


cdef struct Client:
    # one connection
    uint64_t conn
    Item* item                    # that is being received,
    uint32_t filled               # its bytes so far, the last two being CR LF
    uint32_t skip                 # bytes of a value that nobody wants
    uint8_t how                   # to be done with the item
    uint8_t quiet
    bint meta
    uint64_t cas
    uint8_t* line                 # what came of an incomplete line
    uint32_t line_len
    uint8_t* late                 # received while output waited
    uint32_t late_len
    uint8_t* waiting              # output for which the send buffer had no room
    uint32_t wait_at
    uint32_t wait_len
    uint32_t wait_room
    bint closing                  # when everything was sent
    bint broken                   # at once
    uint8_t reply[REPLY]          # flags of a meta command, for its answer
    uint32_t reply_len


cdef class CacheServer(NativeHandler):
    cdef Cache cache
    cdef uint32_t max_item
    cdef uint8_t* out             # what is said in one go
    cdef uint32_t out_len
    cdef uint32_t out_room
    cdef readonly uint32_t clients
    cdef readonly uint64_t total_clients
    cdef int64_t started
    cdef void say(self, Client* c, const void* p, uint32_t n) noexcept nogil
    cdef void text(self, Client* c, const char* s) noexcept nogil
    cdef void number(self, Client* c, uint64_t n) noexcept nogil
    cdef void flush(self, Engine engine, Client* c) noexcept nogil
    cdef void read(self, Engine engine, Client* c, const uint8_t* data, uint32_t n) noexcept nogil
    cdef uint32_t fill(self, Client* c, const uint8_t* data, uint32_t n) noexcept nogil
    cdef void complete(self, Client* c) noexcept nogil
    # of the protocol:
    cdef void command(self, Client* c, const uint8_t* p, uint32_t n) noexcept nogil
    cdef void store(self, Client* c, Item* i) noexcept nogil
