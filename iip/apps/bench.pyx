"""The handlers that `iip pingpong` and `iip bulk` measure with, and the rounds that drive them."""
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from iip.address cimport addr_parse
from iip.engine cimport Engine, NativeHandler, SynInfo
from iip.memory.pool cimport NIL
from iip.runtime.pair cimport clock_ns, pair_run
from iip.runtime.ticker cimport Ticker
from iip.tcp.congestion cimport congestion_named, congestion_register
from iip.tcp.tcb cimport CLOSE_NORMAL, AckInfo, CongestionOps, Tcb, Tcp
from iip.tcp.window cimport MAX_CWND

from iip.errors import Exhausted

cdef enum:
    SUB_BITS = 5                  # buckets per power of two: 32, so 3 % wide
    WRITE = 1 << 18


cdef class Histogram:
    """Counts of values in buckets that are linear within each power of two. Values are whole numbers from 0."""

    cdef void add(self, uint64_t value) noexcept nogil:
        cdef uint32_t msb = 0
        cdef uint64_t v = value >> SUB_BITS
        while v:
            msb += 1
            v >>= 1
        # values below 32 have a bucket each; then 32 of them per power of two
        if msb:
            msb = (msb << SUB_BITS) + (<uint32_t>(value >> (msb - 1)) & ((1 << SUB_BITS) - 1))
        else:
            msb = <uint32_t>value
        self.counts[min(msb, <uint32_t>BUCKETS - 1)] += 1
        self.total += 1

    def record(self, value):
        """Count one value."""
        self.add(value)

    def record_many(self, values):
        """Count each value of an array of int64."""
        cdef const int64_t[:] numbers = values
        cdef Py_ssize_t i
        for i in range(numbers.shape[0]):
            self.add(<uint64_t>numbers[i])

    def merge(self, Histogram other not None):
        """Add the values of another one."""
        cdef int i
        for i in range(BUCKETS):
            self.counts[i] += other.counts[i]
        self.total += other.total

    def percentile(self, p):
        """The value below or at which `p` percent of the values are (middle of its bucket); None if there is none."""
        cdef uint64_t wanted, seen = 0
        cdef uint32_t i = 0, power
        if self.total == 0:
            return None
        wanted = <uint64_t>(self.total * (p / 100.0) + 0.999999)
        wanted = wanted if wanted else 1
        while True:
            seen += self.counts[i]
            if seen >= wanted or i == <uint32_t>BUCKETS - 1:
                break
            i += 1
        power = i >> SUB_BITS
        if power <= 1:
            return float(i)
        return (((1 << SUB_BITS) + (i & ((1 << SUB_BITS) - 1))) + 0.5) * 2.0 ** (power - 1)


cdef class PingPongServer(NativeHandler):
    """Answers every byte with itself."""

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return True

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        engine.send(conn, data, n)
        engine.consume(conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        engine.close_connection(conn)


cdef class PingPongClient(Ticker):
    """Sends a request of `size` bytes on each of up to `connections`, and the next one when the answer is complete.
    With `rate` (requests per second, over all of them) requests are due at regular times instead, and their latency counts
    from then, also when all connections were busy. Connections that were not launched stay idle."""

    def __cinit__(self, size, connections, rate=0.0):
        self.request = bytes(i & 0xFF for i in range(size))
        self.request_data = <const uint8_t*><char*>self.request
        self.size = size
        self.n_exchanges = connections
        self.exchanges = <Exchange*>calloc(connections, sizeof(Exchange))
        self.waiting = <uint32_t*>calloc(connections, sizeof(uint32_t))
        if self.exchanges == NULL or self.waiting == NULL:
            raise MemoryError
        self.interval = 1e9 / rate if rate else 0
        self.latency = Histogram()

    def __dealloc__(self):
        free(self.exchanges)
        free(self.waiting)

    cdef void start(self, Engine engine, Exchange* x, int64_t at) noexcept nogil:
        x.started = at
        x.received = 0
        engine.send(x.conn, self.request_data, self.size)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        self.connected += 1

    def launch(self, Engine engine not None, conns):
        """Send the first request on each of `conns`, handles of connections that are established."""
        cdef const uint64_t[:] handles = conns
        cdef uint32_t i, n = <uint32_t>handles.shape[0]
        if n > self.n_exchanges:
            raise ValueError(f"conns: {n} are more than the {self.n_exchanges} this client was made for")
        self.running = True
        self.now = clock_ns()
        self.due = <double>self.now
        for i in range(n):
            engine.user(handles[i])[0] = i
            self.exchanges[i].conn = handles[i]
            self.start(engine, &self.exchanges[i], self.now)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Exchange* x = &self.exchanges[engine.user(conn)[0]]
        engine.consume(conn, n)
        x.received += n
        if x.received == self.size:
            self.transactions += 1
            self.latency.add(<uint64_t>(engine.net.now - x.started))
            if not self.running:
                engine.close_connection(conn)
            elif self.interval == 0:
                self.start(engine, x, engine.net.now)
            else:
                self.waiting[self.n_waiting] = <uint32_t>(x - self.exchanges)
                self.n_waiting += 1

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        self.closed += 1

    cdef int64_t tick(self, Engine engine, int64_t now) noexcept nogil:
        """Send what is due, while a connection is free for it."""
        self.now = now
        if self.interval == 0 or not self.running:
            return INT64_MAX
        while self.due <= <double>now and self.n_waiting:
            self.n_waiting -= 1
            self.start(engine, &self.exchanges[self.waiting[self.n_waiting]], <int64_t>self.due)
            self.due += self.interval
        return <int64_t>self.due if self.n_waiting else INT64_MAX

    cdef void open_loop(self, Engine client, Engine server, int64_t until) noexcept nogil:
        """Both engines in turn; what is due is sent before each round. Between two calls the schedule stands still."""
        self.due += <double>(clock_ns() - self.now)
        while self.now < until:
            self.tick(client, clock_ns())
            client.run_c(self.now)
            server.run_c(self.now)

    def run(self, Engine client not None, Engine server not None, seconds):
        """Both engines in turn for some seconds; the time it took, s."""
        cdef int64_t begin = clock_ns()
        cdef int64_t until = begin + <int64_t>(seconds * 1e9)
        self.running = True
        with nogil:
            if self.interval:
                self.open_loop(client, server, until)
            else:
                pair_run(client, server, until, &self.now, NULL)
        return (clock_ns() - begin) / 1e9

    def forget(self):
        """Set the results back, after warming up; requests that were late then are not made up for."""
        self.transactions = 0
        self.latency = Histogram()
        self.due = <double>self.now

    def finish(self, Engine engine=None):
        """Close each connection after the answer it waits for; in an open loop some wait for nothing, at `engine`."""
        cdef uint32_t i
        self.running = False
        for i in range(self.n_waiting):
            engine.close_connection(self.exchanges[self.waiting[i]].conn)
        self.n_waiting = 0


cdef class CycleClient(NativeHandler):
    """Connections from beginning to end: opened, one request of `size` bytes and its answer, closed, and the next one
    in its place. They go to `ports` ports of the server in turn, so that those in TIME-WAIT leave some free."""

    def __cinit__(self, address, port, *, ports=64, size=1):
        addr_parse(address, &self.remote, "address")
        self.port, self.n_ports = port, ports
        self.size = size
        self.request = bytes(i & 0xFF for i in range(size))
        self.request_data = <const uint8_t*><char*>self.request

    def launch(self, Engine engine not None, connections):
        """Begin `connections` of them at the same time."""
        self.running = True
        for _ in range(connections):
            if not self.start(engine):
                raise Exhausted("no port or slot is free for another connection; raise Config.max_connections")

    def finish(self):
        """No new ones; those that are under way end as they would have."""
        self.running = False

    cdef bint start(self, Engine engine) noexcept nogil:
        cdef Addr any_address
        cdef int error = 0
        any_address.hi = any_address.lo = 0
        self.next_port = (self.next_port + 1) % self.n_ports
        if engine.connect(&self.remote, self.port + self.next_port, &any_address, 0, &error) == 0:
            self.failures += 1
            return False
        self.open += 1
        return True

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        engine.send(conn, self.request_data, self.size)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef uint64_t* received = engine.user(conn)
        engine.consume(conn, n)
        received[0] += n
        if received[0] == self.size:
            engine.shutdown(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        self.open -= 1
        if reason == CLOSE_NORMAL:
            self.cycles += 1
        else:
            self.failures += 1
        if self.running:
            self.start(engine)


cdef class BulkSource(NativeHandler):
    """Sends the pattern over and over, by reference or with `copy` by copying it, at most `write` bytes in one call,
    until told to stop."""

    def __cinit__(self, pattern, copy=False, write=WRITE):
        self.pattern = pattern
        if copy:
            self.copied = <const uint8_t*><char*><bytes>pattern
        self.period = <uint32_t>len(pattern)
        self.write = write
        self.owner = NIL
        self.running = True

    def lend(self, Engine engine not None):
        """Before the first connection: make the pattern known to the engine's pool."""
        self.owner = engine.pool.lend(self.pattern)

    def release(self, Engine engine not None):
        """Take it back."""
        if self.owner != NIL:
            engine.pool.free(self.owner)
            self.owner = NIL

    def finish(self):
        self.running = False

    cdef void fill(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef uint64_t* at = engine.user(conn)
        cdef uint32_t n
        cdef int64_t taken
        while self.running:
            n = min(min(engine.send_room(conn), self.period - <uint32_t>at[0]), self.write)
            if n == 0:
                return
            if self.copied != NULL:
                taken = engine.send(conn, self.copied + at[0], n)
            else:
                taken = engine.send_packet(conn, self.owner, <uint32_t>at[0], n)
            if taken <= 0:
                return
            self.sent += <uint64_t>taken
            at[0] = (at[0] + <uint64_t>taken) % self.period
        engine.close_connection(conn)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        engine.user(conn)[0] = 0
        self.connected += 1
        self.fill(engine, conn)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        if engine.user(conn) != NULL:
            self.fill(engine, conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        self.closed += 1


cdef class BulkSink(NativeHandler):
    """Takes everything; with `verify` compares it with the pattern."""

    def __cinit__(self, pattern, verify):
        self.pattern = pattern
        self.expected = <const uint8_t*><char*>self.pattern
        self.period = <uint32_t>len(pattern)
        self.verify = verify

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return True

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        engine.user(conn)[0] = 0

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef uint64_t* at
        cdef uint32_t take, left = n
        self.received += n
        if self.verify:
            at = engine.user(conn)
            while left:
                take = min(left, self.period - <uint32_t>at[0])
                if memcmp(data, self.expected + at[0], take) != 0:
                    self.wrong += take
                data += take
                left -= take
                at[0] = (at[0] + take) % self.period
        engine.consume(conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        self.finished += 1
        engine.close_connection(conn)


# -- a congestion window that never is what limits ---------------------------------------------------------------

cdef CongestionOps unyielding


cdef uint32_t unyielding_window = MAX_CWND


cdef void _open_wide(Tcp* s, Tcb* t) noexcept nogil:
    t.cwnd = unyielding_window


cdef void _on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    pass


cdef uint32_t _on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    return unyielding_window


cdef void _nothing(Tcp* s, Tcb* t) noexcept nogil:
    pass


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    pass


unyielding.name = b"unyielding"
unyielding.init = unyielding.on_timeout = _open_wide
unyielding.on_ack = _on_ack
unyielding.on_loss = unyielding.on_ecn = _on_loss
unyielding.on_undo = unyielding.release = _nothing
unyielding.on_idle = _on_idle


def register_unyielding(window=MAX_CWND):
    """Make it known, as ``"unyielding"``: `window` bytes are in flight, if the peer takes so many, with and without loss. For
    measuring only: on a network it would be a nuisance."""
    global unyielding_window
    unyielding_window = window
    if congestion_named(unyielding.name) == NULL:
        congestion_register(&unyielding)
