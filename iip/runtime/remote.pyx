"""The application thread's side of an engine in another thread: an engine by its calls, of which every one becomes a
request."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from iip.address cimport addr_parse
from iip.engine cimport Datagram, Engine, NativeHandler, SynInfo
from iip.memory.pool cimport NIL, pkt, pkt_data, pkt_free, pkt_unhold
from iip.memory.raw cimport free_lines, zalloc_lines
from iip.memory.ring cimport load_acquire, ring_len, ring_peek, ring_pop_u32, ring_release
from iip.runtime.channel cimport *
from iip.runtime.remote_handler cimport RemoteHandler, far_connection
from iip.tcp.tcb cimport Tcb
from iip.tcp.user cimport OPEN_NO_ROOM
from iip.wire.bytes cimport likely, unlikely

from iip.errors import ConfigError, Exhausted

cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept

cdef extern from "Python.h" nogil:
    int PyGILState_Check() noexcept
    void* PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(void* state) noexcept

cdef enum:
    EVENTS = 64                   # handled in one turn


cdef class Remote(Engine):
    """An engine in another thread, as the application's thread sees it: give handlers this one.

    Of the calls of `iip.Engine` it has those of TCP and UDP. They return at once; what goes wrong is told by `tcp_closed`.
    """

    def __init__(self, Engine engine not None, Link link not None, handler):
        self.link = link
        self.c = link.c
        self.out.ring = &link.c.asks
        self.config = engine.config
        self.pool = engine.pool
        self.packets = &engine.pool.c
        self.handler = handler
        self.app = handler if isinstance(handler, NativeHandler) else RemoteHandler(handler, self)
        self.base = engine.config.max_connections
        self.starved = self.free_name = NIL
        self.far = <Far*>zalloc_lines(2 * self.base, sizeof(Far))
        if self.far == NULL:
            raise MemoryError("no memory for the connections of an application; lower max_connections")
        if sizeof(Far) != 64:
            raise SystemError("what is known of a connection does not fill a cache line")

    def __dealloc__(self):
        cdef uint32_t i
        if self.far != NULL:
            for i in range(2 * self.base):
                if self.far[i].object != NULL and self.far[i].handle:
                    Py_DECREF(<object>self.far[i].object)
            free_lines(self.far)

    # -- what happens ------------------------------------------------------------------------------------------

    cdef int turn(self) noexcept nogil:
        """Handle the events that wait; how many there were."""
        cdef uint64_t before = self.events
        if ring_len(&self.c.tells) or unlikely(self.starved != NIL) and ring_len(&self.c.stock):
            self.app.deliver(self)        # which may take the GIL for all of it
        writer_flush(&self.out)
        bell_ring(&self.c.net)
        return <int>(self.events - before)

    cdef void deliver(self) noexcept nogil:
        cdef uint8_t* p
        cdef size_t n, i
        if unlikely(self.starved != NIL) and ring_len(&self.c.stock):
            self.feed()
        n = ring_peek(&self.c.tells, EVENTS, &p)
        for i in range(n):
            self.at = <const Tell*>p + i
            self.one(self.at)
        self.at = NULL
        ring_release(&self.c.tells, n)
        self.events += n

    cdef void one(self, const Tell* t) noexcept nogil:
        cdef Far* f
        if t.kind == TELL_PAYLOAD:
            _payload(self, t)
            return
        if unlikely(t.kind == TELL_SYN):
            self.ask(ASK_ACCEPT if _accept(self, t) else ASK_REFUSE, t.conn, NIL, 0, 0)
            return
        if unlikely(t.kind == TELL_UDP):
            _datagram(self, t)
            return
        if unlikely(t.kind == TELL_ACCEPTED):
            _accepted(self, t)
            return
        f = self.find(t.conn)
        if unlikely(f == NULL):
            return
        if likely(t.kind == TELL_ACKED):
            f.queued -= min(f.queued, t.n)
            f.limit = t.packet
            if not f.flags & FAR_CLOSED:
                self.app.tcp_acked(self, t.conn, t.n)
        elif t.kind == TELL_CONNECTED:
            f.flags |= FAR_OPEN
            f.limit, f.mss = t.n, <uint16_t>t.packet
            if not f.flags & FAR_CLOSED:
                self.app.tcp_connected(self, t.conn)
        elif t.kind == TELL_SHUTDOWN:
            if not f.flags & FAR_CLOSED:
                self.app.tcp_shutdown(self, t.conn)
        else:
            self.app.tcp_closed(self, t.conn, t.a)
            _forget(self, f)

    cdef void feed(self) noexcept nogil:
        """There are packets again: those whose send came short may go on."""
        cdef uint32_t i = self.starved, nxt
        cdef Far* f
        self.starved = NIL
        while i != NIL:
            f = &self.far[i]
            nxt = f.next
            f.flags &= <uint16_t>~<uint32_t>FAR_STARVED
            if f.handle and not f.flags & FAR_CLOSED:
                self.app.tcp_acked(self, f.handle, 0)
            elif f.handle == 0 and i >= self.base:
                f.next = self.free_name       # its name was not given back while it was on this list
                self.free_name = i
            i = nxt

    # -- requests ----------------------------------------------------------------------------------------------

    cdef Far* find(self, uint64_t conn) noexcept nogil:
        cdef uint32_t i = <uint32_t>conn
        if unlikely(i >= 2 * self.base or self.far[i].handle != conn or conn == 0):
            return NULL
        return &self.far[i]

    cdef void ask(self, int kind, uint64_t conn, uint32_t packet, uint32_t n, int64_t value) noexcept nogil:
        """Queue a request. The network's thread never waits for this one, so this one may wait for it."""
        cdef Ask* a = <Ask*>writer_next(&self.out)
        while unlikely(a == NULL):
            if load_acquire(&self.c.net_gone):
                self.give_back(kind, conn, packet)
                return
            bell_ring(&self.c.net)
            _stand_back()
            a = <Ask*>writer_next(&self.out)
        a.kind, a.conn, a.packet, a.n, a.value = kind, conn, packet, n, value

    cdef void give_back(self, int kind, uint64_t conn, uint32_t packet) noexcept nogil:
        """The network's thread has ended, so its pool belongs to this one."""
        if kind == ASK_RELEASE:
            pkt_unhold(self.packets, packet)
        elif packet != NIL and kind != ASK_SEND_VIEW:
            pkt_free(self.packets, packet)

    cdef uint32_t cell(self) noexcept nogil:
        """An empty packet, NIL if there is none at the moment."""
        cdef uint32_t i
        return i if ring_pop_u32(&self.c.stock, &i, 1) else NIL

    cdef int64_t send(self, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Far* f = self.find(conn)
        cdef uint32_t done = 0, take, i, fill
        if f == NULL or f.flags & FAR_SHUT:
            return -1
        n = min(n, f.limit - f.queued if f.queued < f.limit else 0)
        fill = min(<uint32_t>f.mss, self.packets.cell_size - self.packets.headroom)
        while done < n:
            i = self.cell()
            if unlikely(i == NIL):
                if not f.flags & FAR_STARVED:
                    f.flags |= FAR_STARVED
                    f.next = self.starved
                    self.starved = <uint32_t>conn
                break
            take = min(n - done, fill)
            memcpy(pkt_data(pkt(self.packets, i)), data + done, take)
            pkt(self.packets, i).len = pkt(self.packets, i).total_len = take
            self.ask(ASK_SEND, conn, i, take, 0)
            done += take
        f.queued += done
        return done

    cdef int64_t send_packet(self, uint64_t conn, uint32_t owner, uint32_t offset, uint32_t n) noexcept nogil:
        cdef Far* f = self.find(conn)
        if f == NULL or f.flags & FAR_SHUT:
            return -1
        n = min(n, f.limit - f.queued if f.queued < f.limit else 0)
        if n:
            self.ask(ASK_SEND_VIEW, conn, owner, n, offset)
            f.queued += n
        return n

    cdef uint32_t send_room(self, uint64_t conn) noexcept nogil:
        cdef Far* f = self.find(conn)
        return 0 if f == NULL or f.flags & FAR_SHUT or f.queued >= f.limit else f.limit - f.queued

    cdef uint32_t unsent(self, uint64_t conn) noexcept nogil:
        """Bytes that were not acknowledged: more is not known here."""
        cdef Far* f = self.find(conn)
        return 0 if f == NULL else f.queued

    cdef void consume(self, uint64_t conn, uint32_t n) noexcept nogil:
        if likely(self.at != NULL and self.at.conn == conn and self.at.kind == TELL_PAYLOAD):
            self.consumed += n    # it goes with the packet
        elif self.find(conn) != NULL:
            self.ask(ASK_CONSUME, conn, NIL, n, 0)

    cdef void shutdown(self, uint64_t conn) noexcept nogil:
        cdef Far* f = self.find(conn)
        if f != NULL and not f.flags & FAR_SHUT:
            f.flags |= FAR_SHUT
            self.ask(ASK_SHUTDOWN, conn, NIL, 0, 0)

    cdef void close_connection(self, uint64_t conn) noexcept nogil:
        cdef Far* f = self.find(conn)
        if f != NULL and not f.flags & FAR_CLOSED:
            f.flags |= FAR_SHUT | FAR_CLOSED
            self.ask(ASK_CLOSE, conn, NIL, 0, 0)

    cdef void abort(self, uint64_t conn) noexcept nogil:
        cdef Far* f = self.find(conn)
        if f != NULL:
            f.flags |= FAR_SHUT | FAR_CLOSED
            self.ask(ASK_ABORT, conn, NIL, 0, 0)

    cdef uint64_t* user(self, uint64_t conn) noexcept nogil:
        cdef Far* f = self.find(conn)
        return NULL if f == NULL else &f.user

    cdef uint64_t connect(self, const Addr* remote, uint16_t port, const Addr* source, uint16_t source_port,
                          int* error) noexcept nogil:
        """The connection has a name at once; whether it can be opened is told by `tcp_connected` or `tcp_closed`."""
        cdef uint32_t i = self.free_name
        cdef Far* f
        cdef uint64_t conn
        error[0] = OPEN_NO_ROOM
        if i != NIL:
            self.free_name = self.far[i].next
        elif self.next_name < self.base:
            i = self.base + self.next_name
            self.next_name += 1
        else:
            return 0
        f = &self.far[i]
        f.generation += 1
        conn = <uint64_t>f.generation << 32 | i
        _begin(self, f, conn)
        f.limit, f.mss = self.packets.cell_size - self.packets.headroom, 536
        if not self.call_packet(ASK_CONNECT, conn, remote, port, source, source_port, NULL, 0, 0, 0):
            _forget(self, f)
            return 0
        error[0] = 0
        return conn

    cdef void listen(self, uint16_t port, bint on) noexcept nogil:
        self.ask(ASK_LISTEN, 0, NIL, port, on)

    cdef void fastopen(self, uint64_t conn) noexcept nogil:
        self.ask(ASK_FASTOPEN, conn, NIL, 0, 0)

    cdef int set_option(self, uint64_t conn, int option, int64_t value) noexcept nogil:
        if self.find(conn) == NULL:
            return -1
        self.ask(ASK_OPTION, conn, NIL, option, value)
        return 0

    cdef int64_t option(self, uint64_t conn, int option) noexcept nogil:
        """Not known in this thread."""
        return -2

    cdef bint set_congestion(self, uint64_t conn, const char* name) noexcept nogil:
        cdef uint32_t packet = NIL if self.find(conn) == NULL else self.cell()
        cdef size_t n = 0
        if packet == NIL:
            return False
        while n < 63 and name[n]:
            n += 1
        memcpy(pkt_data(pkt(self.packets, packet)), name, n)
        pkt_data(pkt(self.packets, packet))[n] = 0
        self.ask(ASK_CONGESTION, conn, packet, 0, 0)
        return True

    cdef Tcb* lookup(self, uint64_t conn) noexcept nogil:
        """It is in another thread."""
        return NULL

    cdef int64_t run_c(self, int64_t now) noexcept nogil:
        """The other thread does that."""
        return now

    cdef bint call_packet(self, int kind, uint64_t conn, const Addr* remote, uint16_t port, const Addr* source,
                          uint16_t source_port, const uint8_t* data, uint32_t n, uint8_t ttl, uint8_t tos) noexcept nogil:
        """A request with addresses, and data behind them. False: there is no packet for it."""
        cdef uint32_t packet = self.cell()
        cdef Call* call
        if packet == NIL:
            return False
        call = <Call*>pkt_data(pkt(self.packets, packet))
        call.remote, call.source = remote[0], source[0]
        call.port, call.source_port, call.ttl, call.tos = port, source_port, ttl, tos
        if n:
            memcpy(<uint8_t*>call + sizeof(Call), data, n)
        self.ask(kind, conn, packet, n, 0)
        return True

    # -- the same for Python -----------------------------------------------------------------------------------

    def tcp_listen(self, port, on=True):
        """As of `iip.Engine`."""
        self.listen(_port(port, "port", 0), on)
        self.flush()

    def tcp_connect(self, address, port, *, source=None, source_port=0):
        """As of `iip.Engine`, but what is wrong with it is told by `tcp_closed`."""
        cdef Addr remote, local
        cdef int error = 0
        cdef uint64_t conn
        memset(&local, 0, sizeof(Addr))
        addr_parse(address, &remote, "address")
        if source is not None:
            addr_parse(source, &local, "source")
        conn = self.connect(&remote, _port(port, "port", 1), &local, _port(source_port, "source_port", 0), &error)
        if conn == 0:
            raise Exhausted("no room for another connection; raise Config.max_connections or Config.pool_packets")
        self.flush()
        return far_connection(self, conn, &local, source_port, &remote, port)

    def udp_bind(self, port):
        self.ask(ASK_UDP_BIND, 0, NIL, _port(port, "port", 0), 1)
        self.flush()

    def udp_unbind(self, port):
        self.ask(ASK_UDP_BIND, 0, NIL, _port(port, "port", 0), 0)
        self.flush()

    def udp_send(self, data, address, port, source_port, *, source=None, ttl=0, tos=0):
        """Send a datagram that fits into a packet of the pool. False: there is no packet free at the moment."""
        cdef Py_buffer view
        cdef Addr remote, local
        cdef bint sent
        cdef Py_ssize_t most = self.packets.cell_size - self.packets.headroom - sizeof(Call)
        memset(&local, 0, sizeof(Addr))
        addr_parse(address, &remote, "address")
        if source is not None:
            addr_parse(source, &local, "source")
        dport, sport = _port(port, "port", 1), _port(source_port, "source_port", 1)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        if view.len > most:
            PyBuffer_Release(&view)
            raise ValueError(f"data: {len(data)} bytes do not fit into a packet; send at most {most} or raise Config.packet_size")
        sent = self.call_packet(ASK_UDP_SEND, 0, &remote, dport, &local, sport, <const uint8_t*>view.buf, <uint32_t>view.len,
                                ttl, tos)
        PyBuffer_Release(&view)
        self.flush()
        return sent

    def end(self):
        """This thread has ended."""
        writer_flush(&self.out)
        store_release(&self.c.app_gone, 1)
        bell_ring(&self.c.net)

    def collect(self):
        """Give back the packets of received bytes that were kept and are not any more; of the application's thread."""
        if isinstance(self.app, RemoteHandler):
            (<RemoteHandler>self.app).collect(self)

    def release(self):
        """Both threads have ended: received bytes that are still kept give their packets back by themselves."""
        if isinstance(self.app, RemoteHandler):
            (<RemoteHandler>self.app).returned.end()

    def flush(self):
        """Let the other thread have the requests. Callbacks need not: it happens after them."""
        if self.at == NULL:
            writer_flush(&self.out)
            bell_ring(&self.c.net)


cdef void _stand_back() noexcept nogil:
    """Let the other thread work, which may want the GIL if we have it."""
    cdef void* state = PyEval_SaveThread() if PyGILState_Check() else NULL
    sched_yield()
    if state != NULL:
        PyEval_RestoreThread(state)


cdef void _begin(Remote self, Far* f, uint64_t conn) noexcept nogil:
    f.handle = conn
    f.user = 0
    f.object = NULL
    f.queued = f.flags = 0
    self.n_connections += 1


cdef void _forget(Remote self, Far* f) noexcept nogil:
    """The connection is over; its name may be given again, unless a list still has it."""
    cdef uint32_t i = <uint32_t>f.handle
    f.handle = 0
    self.n_connections -= 1
    if i >= self.base and not f.flags & FAR_STARVED:
        f.next = self.free_name
        self.free_name = i


cdef bint _accept(Remote self, const Tell* t) noexcept nogil:
    cdef SynInfo syn
    syn.local, syn.remote = t.local, t.remote
    syn.local_port, syn.remote_port = t.local_port, t.remote_port
    syn.mss, syn.version = <uint16_t>t.packet, t.version
    syn.sack, syn.timestamps, syn.window_scale = t.a & 1, t.a >> 1 & 1, t.a >> 2 & 1
    return self.app.tcp_accept(self, &syn)


cdef void _accepted(Remote self, const Tell* t) noexcept nogil:
    cdef Far* f = &self.far[<uint32_t>t.conn]
    cdef SynInfo syn
    cdef uint32_t starved = f.flags & FAR_STARVED      # still on the list, by a connection before
    _begin(self, f, t.conn)
    f.flags = <uint16_t>(FAR_OPEN | starved)
    f.limit, f.mss = t.n, <uint16_t>t.packet
    if unlikely(t.a):
        memset(&syn, 0, sizeof(SynInfo))
        syn.local, syn.remote = t.local, t.remote
        syn.local_port, syn.remote_port = t.local_port, t.remote_port
        syn.mss, syn.version = <uint16_t>t.packet, t.version
        if not self.app.tcp_accept(self, &syn):
            self.abort(t.conn)
    self.app.tcp_accepted(self, t.conn)


cdef void _payload(Remote self, const Tell* t) noexcept nogil:
    """The packet goes back with what was consumed of it, unless somebody kept it."""
    cdef Far* f = self.find(t.conn)
    self.consumed = 0
    if likely(f != NULL and not f.flags & FAR_CLOSED):
        self.current = t.packet
        self.app.tcp_payload(self, t.conn, t.data, t.n)
        self.current = NIL
    else:
        self.consumed = t.n
    if likely(not self.kept):
        self.ask(ASK_RELEASE, t.conn, t.packet, self.consumed, 0)
        return
    self.kept = False
    if self.consumed:
        self.ask(ASK_CONSUME, t.conn, NIL, self.consumed, 0)


cdef void _datagram(Remote self, const Tell* t) noexcept nogil:
    cdef Datagram d
    d.source, d.destination = t.remote, t.local
    d.source_port, d.destination_port = t.remote_port, t.local_port
    d.version, d.ttl, d.tos = t.version, t.a, t.b
    d.data, d.n = t.data, t.n
    self.current = t.packet
    self.app.udp_payload(self, &d)
    self.current = NIL
    if self.kept:
        self.kept = False
    else:
        self.ask(ASK_RELEASE, 0, t.packet, 0, 0)


cdef uint16_t _port(object value, str name, int low) except? 0xFFFF:
    if not isinstance(value, int) or not low <= value <= 65535:
        raise ConfigError(f"{name}={value!r}: a port is a number from {low} to 65535")
    return value
