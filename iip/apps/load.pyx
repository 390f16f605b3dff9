"""The client of `iip load`: requests in a closed or an open loop, raw or HTTP, over connections that stay or one for each."""
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from iip.address cimport addr_parse
from iip.engine cimport Engine
from iip.runtime.pair cimport clock_ns
from iip.runtime.ticker cimport Ticker
from iip.tcp.tcb cimport CLOSE_REFUSED, CLOSE_RESET, CLOSE_TIMEOUT
from iip.wire.bytes cimport unlikely

from iip.errors import ConfigError

cdef enum:
    AT_ONCE = 64                  # connections that are opened in one round
    RETRY = 10_000_000            # ns between attempts to open again what failed


cdef class Latencies:
    """Counts of latencies, ns, in buckets 0.4 % wide."""

    cdef void add(self, int64_t value) noexcept nogil:
        cdef uint64_t v = <uint64_t>max(value, <int64_t>0)
        cdef uint64_t high = v >> FINE_BITS
        cdef uint32_t msb = 0, i
        while high:
            msb += 1
            high >>= 1
        if msb:
            i = (msb << FINE_BITS) + (<uint32_t>(v >> (msb - 1)) & ((1 << FINE_BITS) - 1))
        else:
            i = <uint32_t>v
        self.counts[min(i, <uint32_t>FINE_BUCKETS - 1)] += 1
        self.total += 1

    def items(self):
        """(latency in the middle of a bucket, how many) for all that are not empty."""
        cdef uint32_t i, power
        found = []
        for i in range(<uint32_t>FINE_BUCKETS):
            if self.counts[i]:
                power = i >> FINE_BITS
                if power <= 1:
                    value = i
                else:
                    value = int(((1 << FINE_BITS) + (i & ((1 << FINE_BITS) - 1)) + 0.5) * 2.0 ** (power - 1))
                found.append((value, self.counts[i]))
        return found


cdef class LoadClient(Ticker):
    """Sends `request` over `connections`, up to `depth` at a time on each. response: bytes of an answer, 0: HTTP. rate:
    requests per second at regular times over all (an open loop: latency counts from the time a request is due, also if no
    connection is free for it), 0: the next when the answer is there. per_request: a connection for each."""

    def __cinit__(self, request, *, connections=1, depth=1, response=0, rate=0.0, per_request=False):
        if depth > 1 and per_request:
            raise ConfigError(f"depth={depth}: a connection for each request has one; use depth=1")
        self.request = bytes(request)
        self.request_data = <const uint8_t*><char*>self.request
        self.size = <uint32_t>len(request)
        self.connections, self.depth, self.response, self.per_request = connections, depth, response, per_request
        self.interval = 1e9 / rate if rate else 0
        self.sessions = <Session*>calloc(connections, sizeof(Session))
        self.starts = <int64_t*>calloc(connections * depth, sizeof(int64_t))
        self.free_list = <uint32_t*>calloc(connections, sizeof(uint32_t))
        self.down = <uint32_t*>calloc(connections, sizeof(uint32_t))
        if self.sessions == NULL or self.starts == NULL or self.free_list == NULL or self.down == NULL:
            raise MemoryError("no memory for the connections; lower connections or depth")
        self.latency = Latencies()

    def __dealloc__(self):
        free(self.sessions)
        free(self.starts)
        free(self.free_list)
        free(self.down)

    def aim(self, address, port, sources=()):
        """Open the connections, from `sources` in turn, in the rounds to come."""
        if len(sources) > 256:
            raise ConfigError(f"{len(sources)} addresses: the load can come from 256 at most")
        addr_parse(address, &self.remote, "target")
        self.port = port
        for i, source in enumerate(sources):
            addr_parse(source, &self.sources[<int>i], "address")
        self.n_sources = <uint32_t>len(sources)
        self.running = True

    def load(self):
        """Begin to send requests."""
        self.loading = True
        self.due = 0

    def forget(self):
        """Set the results back, after warming up; those until now."""
        latency, self.latency = self.latency, Latencies()
        found = {name: getattr(self, name) for name in (
            "responses", "received", "opened", "errors_refused", "errors_reset", "errors_timeout", "errors_other",
            "bad_responses")}
        self.responses = self.received = self.opened = self.bad_responses = 0
        self.errors_refused = self.errors_reset = self.errors_timeout = self.errors_other = 0
        return latency, found

    def finish(self, Engine engine not None):
        """Close everything."""
        cdef uint32_t i
        self.running = self.loading = False
        for i in range(self.connections):
            if self.sessions[i].conn:
                engine.abort(self.sessions[i].conn)

    # -- connections -------------------------------------------------------------------------------------------

    cdef void open(self, Engine engine, uint32_t i) noexcept nogil:
        cdef Session* s = &self.sessions[i]
        cdef Addr source
        cdef int error = 0
        source.hi = source.lo = 0
        if self.n_sources:
            source = self.sources[self.next_source]
            self.next_source = (self.next_source + 1) % self.n_sources
        s.conn = engine.connect(&self.remote, self.port, &source, 0, &error)
        if s.conn == 0:
            self.errors_other += 1
            self.down[self.n_down] = i
            self.n_down += 1
            return
        self.opened += 1
        engine.user(s.conn)[0] = i + 1
        s.up = s.in_body = s.bad = s.sized = False
        s.sent = s.line_len = 0
        s.left = self.response
        s.to_send = <uint64_t>s.under_way * self.size     # a request that waits for its connection

    cdef int64_t tick(self, Engine engine, int64_t now) noexcept nogil:
        cdef uint32_t i, n
        cdef int _k
        if not self.running:
            return INT64_MAX
        if unlikely(self.n_opened < self.connections):
            if self.per_request:
                while self.n_opened < self.connections:
                    self.free_list[self.n_free] = self.n_opened
                    self.sessions[self.n_opened].free = True
                    self.n_free += 1
                    self.n_opened += 1
            for _k in range(AT_ONCE):
                if self.n_opened == self.connections:
                    break
                self.n_opened += 1
                self.open(engine, self.n_opened - 1)
        if unlikely(self.n_down) and now >= self.retry_at:
            self.retry_at = now + RETRY
            n = self.n_down
            self.n_down = 0
            for i in range(n):    # what fails again is put back, before those that are still to come
                self.open(engine, self.down[i])
        if not self.loading:
            return now + RETRY
        if self.interval == 0:
            while self.n_free:
                self.n_free -= 1
                i = self.free_list[self.n_free]
                self.sessions[i].free = False
                if self.sessions[i].up or self.per_request:
                    self.offer(engine, i, now)
            return now + RETRY if self.n_down else INT64_MAX
        if self.due == 0:
            self.due = <double>now
        while self.due <= <double>now and self.n_free:
            self.n_free -= 1
            i = self.free_list[self.n_free]
            self.sessions[i].free = False
            if not self.sessions[i].up and not self.per_request:
                continue          # it has gone meanwhile
            self.begin(engine, i, <int64_t>self.due)
            self.due += self.interval
            self.offer(engine, i, 0)
        return <int64_t>self.due if self.n_free else INT64_MAX

    # -- requests ----------------------------------------------------------------------------------------------

    cdef void offer(self, Engine engine, uint32_t i, int64_t now) noexcept nogil:
        """A session can take requests. In a closed loop it gets them at once (0: put it on the list in any case)."""
        cdef Session* s = &self.sessions[i]
        if self.interval == 0 and self.loading and now:
            while s.under_way < self.depth:
                self.begin(engine, i, now)
        elif not s.free and s.under_way < self.depth and (s.up or self.per_request):
            s.free = True
            self.free_list[self.n_free] = i
            self.n_free += 1

    cdef void begin(self, Engine engine, uint32_t i, int64_t at) noexcept nogil:
        cdef Session* s = &self.sessions[i]
        self.starts[i * self.depth + (s.first + s.under_way) % self.depth] = at
        s.under_way += 1
        if s.conn == 0:
            self.open(engine, i)
            return
        s.to_send += self.size
        if s.up:
            self.push(engine, s)

    cdef void push(self, Engine engine, Session* s) noexcept nogil:
        """Send what the send buffer takes: all requests are alike."""
        cdef int64_t taken
        cdef uint32_t n
        while s.to_send:
            n = self.size - s.sent
            taken = engine.send(s.conn, self.request_data + s.sent, n)
            if taken <= 0:
                return
            s.to_send -= <uint64_t>taken
            s.sent = 0 if taken == self.size - s.sent else s.sent + <uint32_t>taken
            if taken < <int64_t>n:
                return

    cdef void done(self, Engine engine, uint32_t i) noexcept nogil:
        """A response is complete."""
        cdef Session* s = &self.sessions[i]
        cdef int64_t now = clock_ns()     # the engine's stands still while it catches up
        self.responses += 1
        self.bad_responses += s.bad
        self.latency.add(now - self.starts[i * self.depth + s.first])
        s.first = (s.first + 1) % self.depth
        s.under_way -= 1
        s.left = self.response
        s.in_body = s.bad = s.sized = False
        if self.per_request:
            engine.close_connection(s.conn)
            s.conn = 0            # what is left of it is the engine's business
            self.up -= s.up
            s.up = False
            self.offer(engine, i, now)
        else:
            self.offer(engine, i, now)

    # -- what happens ------------------------------------------------------------------------------------------

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef uint32_t i = <uint32_t>engine.user(conn)[0] - 1
        cdef Session* s = &self.sessions[i]
        if s.conn != conn:
            return
        s.up = True
        self.up += 1
        self.push(engine, s)
        if not self.per_request:
            self.offer(engine, i, clock_ns())

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        cdef uint64_t* user = engine.user(conn)
        if user != NULL and user[0] and self.sessions[user[0] - 1].conn == conn and self.sessions[user[0] - 1].to_send:
            self.push(engine, &self.sessions[user[0] - 1])

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef uint32_t i = <uint32_t>engine.user(conn)[0] - 1, used
        cdef Session* s = &self.sessions[i]
        cdef bint whole
        engine.consume(conn, n)
        self.received += n
        while n and s.conn == conn and s.under_way:
            whole = False
            if self.response:
                used = <uint32_t>min(<uint64_t>n, s.left)
                s.left -= used
                whole = s.left == 0
            else:
                used = self.parse(s, data, n, &whole)
            data += used
            n -= used
            if whole:
                self.done(engine, i)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef uint32_t i = <uint32_t>engine.user(conn)[0] - 1
        cdef Session* s = &self.sessions[i]
        if s.conn == conn and s.in_body and not s.sized and s.under_way:
            self.done(engine, i)  # a response without a length ends with its connection
        engine.close_connection(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        cdef uint64_t* user = engine.user(conn)
        cdef uint32_t i
        cdef Session* s
        if user == NULL or user[0] == 0 or self.sessions[user[0] - 1].conn != conn:
            return
        i = <uint32_t>user[0] - 1
        s = &self.sessions[i]
        self.up -= s.up
        s.up = False
        s.conn = 0
        s.under_way = 0           # lost
        s.first = 0
        if not self.running:
            return
        if reason == CLOSE_REFUSED:
            self.errors_refused += 1
        elif reason == CLOSE_RESET:
            self.errors_reset += 1
        elif reason == CLOSE_TIMEOUT:
            self.errors_timeout += 1
        else:
            self.errors_other += 1
        if self.per_request:
            self.offer(engine, i, 0)
        else:
            self.down[self.n_down] = i
            self.n_down += 1

    # -- HTTP --------------------------------------------------------------------------------------------------

    cdef uint32_t parse(self, Session* s, const uint8_t* data, uint32_t n, bint* whole) noexcept nogil:
        """Read on in a response, up to its end; the bytes used."""
        cdef uint32_t i = 0
        cdef bint over = False
        if not s.in_body:
            while i < n and not over:
                if data[i] == c"\n":
                    self.end_of_line(s, &over)
                elif s.line_len < LINE:
                    s.line[s.line_len] = <char>data[i]
                    s.line_len += 1
                i += 1
            if not over:
                return i
            s.in_body = True
            whole[0] = s.sized and s.left == 0
            return i
        if not s.sized:
            return n
        i = <uint32_t>min(<uint64_t>n, s.left)
        s.left -= i
        whole[0] = s.left == 0
        return i

    cdef void end_of_line(self, Session* s, bint* over) noexcept nogil:
        cdef const char* name = b"content-length:"
        cdef uint32_t i = 0
        if s.line_len == 0 or (s.line_len == 1 and s.line[0] == c"\r"):
            over[0] = True
        elif s.line_len > 12 and s.line[0] == c"H" and s.line[4] == c"/":
            s.bad = s.line[9] != c"2" and s.line[9] != c"3"
        else:
            while i < 15 and i < s.line_len and (s.line[i] | 0x20) == (name[i] | 0x20):
                i += 1
            if i == 15:
                s.sized = True
                s.left = 0
                while i < s.line_len:
                    if c"0" <= s.line[i] <= c"9":
                        s.left = s.left * 10 + <uint64_t>(s.line[i] - c"0")
                    i += 1
        s.line_len = 0
