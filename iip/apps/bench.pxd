"""The handlers that `iip pingpong` and `iip bulk` measure with."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.engine cimport Engine, NativeHandler
from iip.net.types cimport Addr
from iip.runtime.ticker cimport Ticker

cdef enum:
    BUCKETS = 2048


cdef class Histogram:
    cdef uint64_t counts[BUCKETS]
    cdef readonly uint64_t total
    cdef void add(self, uint64_t value) noexcept nogil


cdef struct Exchange:
    int64_t started               # when the request was sent, ns
    uint64_t conn
    uint32_t received             # bytes of the response so far


cdef class PingPongServer(NativeHandler):
    pass


cdef class PingPongClient(Ticker):
    cdef Exchange* exchanges
    cdef uint32_t n_exchanges
    cdef uint32_t* waiting        # open loop: exchanges that have nothing to do
    cdef uint32_t n_waiting
    cdef double interval          # between two requests, ns; 0: closed loop
    cdef double due               # the next one
    cdef uint32_t size
    cdef bytes request
    cdef const uint8_t* request_data
    cdef int64_t now
    cdef public bint running
    cdef readonly Histogram latency
    cdef readonly uint32_t connected
    cdef readonly uint32_t closed
    cdef readonly uint64_t transactions
    cdef void start(self, Engine engine, Exchange* x, int64_t at) noexcept nogil
    cdef void open_loop(self, Engine client, Engine server, int64_t until) noexcept nogil


cdef class CycleClient(NativeHandler):
    cdef Addr remote
    cdef uint16_t port            # of the server: the first, the number of them, and the next one's place
    cdef uint16_t n_ports
    cdef uint16_t next_port
    cdef bytes request
    cdef const uint8_t* request_data
    cdef uint32_t size
    cdef public bint running
    cdef readonly uint32_t open         # connections in any stage of their life
    cdef readonly uint64_t cycles       # complete ones
    cdef readonly uint64_t failures
    cdef bint start(self, Engine engine) noexcept nogil


cdef class BulkSource(NativeHandler):
    cdef object pattern
    cdef uint32_t owner           # the pattern, lent to the engine's pool
    cdef const uint8_t* copied    # the pattern, if it is to be copied into packets
    cdef uint32_t period
    cdef uint32_t write           # most bytes of one send
    cdef public bint running
    cdef readonly uint32_t connected
    cdef readonly uint32_t closed
    cdef readonly uint64_t sent
    cdef void fill(self, Engine engine, uint64_t conn) noexcept nogil


cdef class BulkSink(NativeHandler):
    cdef bytes pattern
    cdef const uint8_t* expected
    cdef uint32_t period
    cdef bint verify
    cdef readonly uint64_t received
    cdef readonly uint64_t wrong        # bytes that were not as sent
    cdef readonly uint32_t finished     # connections whose FIN came
