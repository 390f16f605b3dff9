"""The handler of hosts that measure: sources that always have something to send, and sinks that take everything."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from iip.engine cimport Engine, SynInfo
from iip.memory.pool cimport NIL
from iip.sim.network cimport Network
from iip.tcp.tcb cimport TF_PASSIVE, Tcb

from iip.errors import ConfigError, Exhausted
from iip.sim.network import START as _START

BLOCK = bytes(1 << 20)            # what flows send, again and again


cdef int64_t START = _START


cdef class Traffic(NativeHandler):
    """One for all hosts of a simulation that have no handler of their own. `BulkFlow` is the way to use it."""

    def __init__(self, Network network not None):
        self.network = network
        self.engines = []

    def __dealloc__(self):
        free(self.flows)

    def add(self, Engine source not None, bytes_):
        """A flow from the host of this engine; its number. The flow goes to port `port(number)`."""
        cdef Flow* flows
        cdef Flow* flow
        if self.n_flows == MAX_FLOWS:
            raise ConfigError(f"a simulation has at most {MAX_FLOWS} flows")
        if self.n_flows == self.room:
            flows = <Flow*>realloc(self.flows, (2 * self.room + 16) * sizeof(Flow))
            if flows == NULL:
                raise MemoryError("no memory for another flow")
            self.flows = flows
            self.room = 2 * self.room + 16
        flow = &self.flows[self.n_flows]
        memset(flow, 0, sizeof(Flow))
        flow.limit = 0xFFFFFFFFFFFFFFFF if bytes_ is None else bytes_
        flow.connected = flow.done = -1
        owner = source.pool.lend(BLOCK)
        if owner is None:
            raise Exhausted("the pool of the host has no room for another flow; raise Config.pool_packets")
        flow.owner = owner
        self.engines.append(source)
        self.n_flows += 1
        return self.n_flows - 1

    def port(self, number):
        """Where a flow goes."""
        return PORT + number

    def begin(self, number, connection):
        """The connection of a flow."""
        (<Engine>connection.engine).user(<uint64_t>connection.handle)[0] = number + 1

    def end(self, number):
        """Send no more, and the end after what was given to TCP."""
        self.flows[<uint32_t>self._checked(number)].limit = 0

    def state(self, number):
        """(sent, acknowledged, received bytes; connected and done, ns since the beginning or -1; closed)"""
        cdef Flow* f = &self.flows[<uint32_t>self._checked(number)]
        return f.sent, f.acked, f.received, f.connected, f.done, bool(f.closed)

    def _checked(self, number):
        if not 0 <= number < self.n_flows:
            raise ConfigError(f"there is no flow {number}")
        return number

    def release(self):
        """Take what was lent back, before the engines are closed."""
        cdef uint32_t i
        for i in range(self.n_flows):
            if self.flows[i].owner != NIL:
                (<Engine>self.engines[i]).pool.free(self.flows[i].owner)
                self.flows[i].owner = NIL

    cdef Flow* flow_of(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef uint64_t* word = engine.user(conn)
        if word == NULL or word[0] == 0 or word[0] > self.n_flows:
            return NULL
        return &self.flows[word[0] - 1]

    cdef void fill(self, Engine engine, uint64_t conn, Flow* flow) noexcept nogil:
        cdef uint64_t n
        cdef int64_t taken
        while flow.sent < flow.limit:
            n = min(min(<uint64_t>engine.send_room(conn), flow.limit - flow.sent), <uint64_t>(1 << 18))
            if n == 0:
                return
            taken = engine.send_packet(conn, flow.owner, 0, <uint32_t>n)
            if taken <= 0:
                return
            flow.sent += <uint64_t>taken
        engine.shutdown(conn)

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return PORT <= syn.local_port < PORT + self.n_flows

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef Tcb* t = engine.lookup(conn)
        engine.user(conn)[0] = t.lport - PORT + 1

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef Flow* flow = self.flow_of(engine, conn)
        if flow != NULL:
            flow.connected = self.network.now_c - START
            self.fill(engine, conn, flow)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        cdef Flow* flow = self.flow_of(engine, conn)
        if flow != NULL:
            flow.acked += n
            self.fill(engine, conn, flow)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Flow* flow = self.flow_of(engine, conn)
        if flow != NULL:
            flow.received += n
        engine.consume(conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef Flow* flow = self.flow_of(engine, conn)
        cdef Tcb* t = engine.lookup(conn)
        if flow != NULL and t.flags & TF_PASSIVE:
            flow.done = self.network.now_c - START
        engine.close_connection(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        cdef Flow* flow = self.flow_of(engine, conn)
        if flow != NULL:
            flow.closed = True
