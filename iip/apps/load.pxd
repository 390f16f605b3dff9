"""The client of `iip load`."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.engine cimport Engine
from iip.net.types cimport Addr
from iip.runtime.ticker cimport Ticker

cdef enum:
    FINE_BITS = 8                 # buckets per power of two: 256, so 0.4 % wide
    FINE_BUCKETS = 16384
    LINE = 40                     # of a header's line, bytes that are looked at


cdef class Latencies:
    cdef uint64_t counts[FINE_BUCKETS]
    cdef readonly uint64_t total
    cdef void add(self, int64_t value) noexcept nogil


cdef struct Session:
    uint64_t conn                 # 0: none
    uint32_t first                # requests under way, in a ring of `depth` places
    uint32_t under_way
    uint64_t to_send              # bytes of them
    uint32_t sent                 # bytes of the request that is being sent
    bint up
    bint free                     # on the list of those that can take a request
    # the response
    uint64_t left                 # bytes of it, or of its body
    bint in_body
    bint bad
    bint sized                    # its length was told
    uint32_t line_len
    char line[LINE]


cdef class LoadClient(Ticker):
    cdef Session* sessions
    cdef int64_t* starts
    cdef uint32_t* free_list
    cdef uint32_t n_free
    cdef readonly uint32_t connections
    cdef uint32_t depth
    cdef uint32_t response        # bytes; 0: HTTP
    cdef bint per_request
    cdef double interval
    cdef double due
    cdef bytes request
    cdef const uint8_t* request_data
    cdef uint32_t size
    cdef Addr remote
    cdef uint16_t port
    cdef Addr sources[256]
    cdef uint32_t n_sources
    cdef uint32_t next_source
    cdef uint32_t n_opened        # sessions that were begun
    cdef uint32_t n_down
    cdef uint32_t* down           # sessions to be opened again
    cdef int64_t retry_at
    cdef bint running
    cdef bint loading             # requests are sent
    cdef readonly Latencies latency
    cdef readonly uint32_t up     # established
    cdef readonly uint64_t responses
    cdef readonly uint64_t received
    cdef readonly uint64_t opened
    cdef readonly uint64_t errors_refused
    cdef readonly uint64_t errors_reset
    cdef readonly uint64_t errors_timeout
    cdef readonly uint64_t errors_other
    cdef readonly uint64_t bad_responses
    cdef void open(self, Engine engine, uint32_t i) noexcept nogil
    cdef void begin(self, Engine engine, uint32_t i, int64_t at) noexcept nogil
    cdef void push(self, Engine engine, Session* s) noexcept nogil
    cdef void offer(self, Engine engine, uint32_t i, int64_t now) noexcept nogil
    cdef void done(self, Engine engine, uint32_t i) noexcept nogil
    cdef uint32_t parse(self, Session* s, const uint8_t* data, uint32_t n, bint* whole) noexcept nogil
    cdef void end_of_line(self, Session* s, bint* over) noexcept nogil
