"""The engine and its handlers, for extensions that cimport them."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.drivers.base cimport Driver
from iip.memory.pool cimport PacketPool
from iip.memory.slab cimport Slab
from iip.net.state cimport Net, NetEvent
from iip.net.types cimport Addr
from iip.tcp.tcb cimport Tcb, Tcp

cpdef enum:                       # iip.engine.API_VERSION in Python: of the engine at hand
    API_VERSION = 3               # bumped with every change of what extensions see through iip/__init__.pxd


cdef struct SynInfo:
    # a SYN that asks to be accepted; ports in host order
    Addr local
    Addr remote
    uint16_t local_port
    uint16_t remote_port
    uint16_t mss                  # the peer's; 0: not said
    uint8_t version               # 4 or 6
    uint8_t sack
    uint8_t timestamps
    uint8_t window_scale


cdef struct Datagram:
    # a UDP datagram; the data lies in `n` bytes at `data`, or in a chain if `data` is NULL
    Addr source
    Addr destination
    uint16_t source_port
    uint16_t destination_port
    uint8_t version
    uint8_t ttl
    uint8_t tos
    const uint8_t* data
    uint32_t n


cdef class NativeHandler:
    # Called without the GIL in the deliver phase, where everything may be asked of the engine.
    # `conn` is a handle: it outlives its connection safely.
    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil
    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil
    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil
    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil
    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil
    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil
    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil
    cdef void udp_payload(self, Engine engine, const Datagram* datagram) noexcept nogil
    cdef void net_event(self, Engine engine, NetEvent* event) noexcept nogil
    cdef void deliver(self, Engine engine) noexcept nogil


cdef class Engine:
    cdef readonly PacketPool pool
    cdef public object config
    cdef readonly Driver driver
    cdef NativeHandler native
    cdef Net* net                          # their layout is nobody's business outside
    cdef Tcp* tcp
    cdef Slab* slab
    cdef uint64_t* counters                # by Verdict
    cdef uint32_t* rx
    # segmentation in software (Config.gso)
    cdef bint gso
    cdef bint gro                          # Config.gro
    cdef uint32_t rest                     # what is left of the frame being cut, or NIL
    cdef uint32_t segments[64]             # cut, and not taken by the driver yet
    cdef uint32_t n_segments
    cdef int burst
    cdef int late                          # runs in which timers waited for input
    cdef bint closed
    cdef bint running                      # inside `run`, so perhaps in a callback
    cdef public object error               # first exception of a Python callback in this run
    cdef uint64_t at_conn                  # whose callbacks run, or 0
    cdef Tcb* at_tcb
    cdef uint32_t current                  # packet whose payload is being delivered, or NIL
    # for handlers that only pass on what happens
    cdef bint stalled                      # set by the handler: no more events; cleared by it, too
    cdef bint undecided                    # set in `tcp_accept`: the answer comes later, by user_accept
    # -- the calls of a native application; nogil, from callbacks or between runs
    cdef int64_t run_c(self, int64_t now) noexcept nogil
    cdef int64_t send(self, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil
    cdef int64_t send_packet(self, uint64_t conn, uint32_t owner, uint32_t offset, uint32_t n) noexcept nogil
    cdef uint32_t send_room(self, uint64_t conn) noexcept nogil
    cdef void consume(self, uint64_t conn, uint32_t n) noexcept nogil
    cdef void shutdown(self, uint64_t conn) noexcept nogil
    cdef void close_connection(self, uint64_t conn) noexcept nogil
    cdef void abort(self, uint64_t conn) noexcept nogil
    cdef uint64_t* user(self, uint64_t conn) noexcept nogil
    cdef uint64_t connect(self, const Addr* remote, uint16_t port, const Addr* source, uint16_t source_port,
                          int* error) noexcept nogil
    cdef void listen(self, uint16_t port, bint on) noexcept nogil
    cdef void deliver(self) noexcept nogil
    cdef void fastopen(self, uint64_t conn) noexcept nogil
    cdef int set_option(self, uint64_t conn, int option, int64_t value) noexcept nogil
    cdef int64_t option(self, uint64_t conn, int option) noexcept nogil
    cdef uint32_t unsent(self, uint64_t conn) noexcept nogil
    cdef bint set_congestion(self, uint64_t conn, const char* name) noexcept nogil
    cdef Tcb* lookup(self, uint64_t conn) noexcept nogil
    cdef uint64_t handle(self, Tcb* t) noexcept nogil
    cdef void shut(self)
