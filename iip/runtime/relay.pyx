"""The network thread's side of an application in another thread: a handler that passes on what happens, and does what
is asked for."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from iip.engine cimport Datagram, Engine, NativeHandler, SynInfo
from iip.memory.pool cimport pkt, pkt_alloc, pkt_data, pkt_free, pkt_hold, pkt_unhold, pool_low
from iip.memory.ring cimport (load_acquire, ring_len, ring_peek, ring_pop_u32, ring_push_u32, ring_release,
                              store_release)
from iip.memory.slab cimport slab_live, slab_lookup
from iip.net.route cimport net_route
from iip.net.state cimport NetEvent
from iip.net.types cimport Flow
from iip.net.udp cimport udp_bind, udp_send, udp_unbind
from iip.runtime.channel cimport *
from iip.tcp.tcb cimport (
    CLOSED, CLOSE_NO_MEMORY, CLOSE_UNREACHABLE, ESTABLISHED, FO_OPEN, SYN_RCVD, TF_ASKED, TF_PASSIVE, TIME_WAIT, Tcb, tcb)
from iip.tcp.user cimport OPEN_NO_ROUTE, user_abort, user_accept, user_send_owned, user_send_packet, user_send_room
from iip.verdict cimport ok
from iip.wire.bytes cimport likely, unlikely

cdef enum:
    MARGIN = 1024                 # events of one connection's packet for which there is always room
    REQUESTS = 1024               # taken in one round


cdef class Relay(NativeHandler):
    """Passes on what happens at an engine. link: the rings; connections: `Config.max_connections`; patience: seconds after
    which an application that reads nothing is given up, 0: never."""

    def __cinit__(self, Link link not None, connections, patience=10.0):
        self.link = link
        self.c = link.c
        self.out.ring = &link.c.tells
        self.base = connections
        self.patience = <int64_t>(patience * 1e9)
        self.opened = <uint64_t*>calloc(connections, sizeof(uint64_t))
        self.asked = <uint64_t*>calloc(connections, sizeof(uint64_t))
        if self.opened == NULL or self.asked == NULL:
            raise MemoryError("no memory for the connections of an application in another thread")

    def __dealloc__(self):
        free(self.opened)
        free(self.asked)

    def stats(self):
        return {"events": self.events, "requests": self.requests, "stalls": self.stalls,
                "datagrams_dropped": self.datagrams_dropped, "connections_aborted": self.connections_aborted,
                "events_lost": self.events_lost, "given_up": int(self.gone), **self.link.stats()}

    # -- events ----------------------------------------------------------------------------------------------

    cdef Tell* tell(self, Engine engine, int kind, uint64_t conn) noexcept nogil:
        """A record for one more event. While little room is left the engine keeps its events, so there always is one."""
        cdef Tell* t = <Tell*>writer_next(&self.out)
        if unlikely(t == NULL):
            self.events_lost += 1
            self.give_up(engine)
            return NULL
        if unlikely(writer_free(&self.out) < MARGIN):
            self.out.ring.head_seen = load_acquire(&self.out.ring.head)
            engine.stalled = writer_free(&self.out) < MARGIN
        t.kind = <uint8_t>kind
        t.conn = conn
        self.events += 1
        return t

    cdef void deliver(self, Engine engine) noexcept nogil:
        if engine.stalled:
            self.out.ring.head_seen = load_acquire(&self.out.ring.head)
            engine.stalled = not self.gone and writer_free(&self.out) < MARGIN
            self.stalls += engine.stalled
        engine.deliver()
        writer_flush(&self.out)
        bell_ring(&self.c.app)

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        cdef Tell* t
        if self.gone:
            return False
        if engine.at_tcb.state >= ESTABLISHED or engine.at_tcb.fastopen & FO_OPEN:
            self.unasked = engine.at_conn     # its handshake is over: the application decides afterwards
            return True
        t = self.tell(engine, TELL_SYN, engine.at_conn)
        if t == NULL:
            return False
        t.local, t.remote = syn.local, syn.remote
        t.local_port, t.remote_port = syn.local_port, syn.remote_port
        t.version, t.packet = syn.version, syn.mss
        t.a = <uint8_t>(syn.sack | syn.timestamps << 1 | syn.window_scale << 2)
        engine.undecided = True
        return False

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        _tell_open(self, engine, TELL_ACCEPTED, conn)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        _tell_open(self, engine, TELL_CONNECTED, conn)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Tell* t
        if unlikely(self.gone):
            engine.consume(conn, n)
            return
        t = self.tell(engine, TELL_PAYLOAD, _name(engine))
        if likely(t != NULL):
            t.data, t.n = data, n
            t.packet = pkt_hold(engine.net.pool, engine.current)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        cdef Tell* t
        if unlikely(self.gone):
            return
        user_send_room(engine.tcp, engine.at_tcb)      # the buffer grows when it is asked
        t = self.tell(engine, TELL_ACKED, _name(engine))
        if likely(t != NULL):
            t.n, t.packet = n, engine.at_tcb.snd_buf

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.gone:
            engine.close_connection(conn)
        else:
            self.tell(engine, TELL_SHUTDOWN, _name(engine))

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        cdef uint64_t name = _name(engine)
        cdef Tell* t
        if <uint32_t>name >= self.base:
            self.opened[<uint32_t>name - self.base] = 0
        if not self.gone:
            t = self.tell(engine, TELL_CLOSED, name)
            if t != NULL:
                t.a = <uint8_t>reason

    cdef void udp_payload(self, Engine engine, const Datagram* d) noexcept nogil:
        cdef Tell* t
        if self.gone or engine.stalled or d.data == NULL:
            self.datagrams_dropped += 1
            return
        t = self.tell(engine, TELL_UDP, 0)
        if t != NULL:
            t.local, t.remote = d.destination, d.source
            t.local_port, t.remote_port = d.destination_port, d.source_port
            t.version, t.a, t.b = d.version, d.ttl, d.tos
            t.data, t.n = d.data, d.n
            t.packet = pkt_hold(engine.net.pool, engine.current)

    cdef void net_event(self, Engine engine, NetEvent* event) noexcept nogil:
        pass

    # -- requests --------------------------------------------------------------------------------------------

    cdef uint64_t real(self, uint64_t conn) noexcept nogil:
        """The engine's handle of a connection, 0 if it is gone."""
        cdef uint32_t i = <uint32_t>conn
        if i < self.base:
            return conn
        i -= self.base
        return self.opened[i] if i < self.base and self.asked[i] == conn else 0

    cdef int take(self, Engine engine) noexcept nogil:
        """Do what the application asked for; how many requests."""
        cdef int done = 0
        cdef size_t n, i
        cdef uint8_t* p
        while done < REQUESTS:
            n = ring_peek(&self.c.asks, WRITER_BURST, &p)
            for i in range(n):
                if unlikely(not self.apply(engine, <Ask*>p + i)):
                    ring_release(&self.c.asks, i)
                    return done
                done += 1
            if n == 0:
                break
            ring_release(&self.c.asks, n)
        self.requests += done
        if unlikely(self.out.used):       # answers
            writer_flush(&self.out)
            bell_ring(&self.c.app)
        self.supply(engine)
        return done

    cdef bint apply(self, Engine engine, Ask* ask) noexcept nogil:
        """One request. False: there is no memory for it yet; the next ones have to wait, too."""
        cdef uint64_t conn = self.real(ask.conn)
        cdef Tcb* t
        cdef int64_t taken
        if ask.kind == ASK_RELEASE:
            if ask.n:
                engine.consume(conn, ask.n)
            pkt_unhold(engine.net.pool, ask.packet)
        elif ask.kind == ASK_SEND:
            t = engine.lookup(conn)
            if likely(t != NULL):
                user_send_owned(engine.tcp, t, ask.packet)
            else:
                pkt_free(engine.net.pool, ask.packet)
        elif ask.kind == ASK_SEND_VIEW:
            t = engine.lookup(conn)
            taken = -1 if t == NULL else user_send_packet(
                engine.tcp, t, ask.packet, <uint32_t>ask.value + self.blocked, ask.n - self.blocked)
            if taken >= 0 and taken < <int64_t>(ask.n - self.blocked):
                self.blocked += <uint32_t>taken
                return False
            self.blocked = 0
        elif ask.kind == ASK_CONSUME:
            engine.consume(conn, ask.n)
        elif ask.kind == ASK_SHUTDOWN:
            engine.shutdown(conn)
        elif ask.kind == ASK_CLOSE:
            engine.close_connection(conn)
        elif ask.kind == ASK_ABORT:
            engine.abort(conn)
        elif ask.kind == ASK_ACCEPT or ask.kind == ASK_REFUSE:
            t = <Tcb*>slab_lookup(engine.slab, conn)
            if t != NULL and t.state == SYN_RCVD and t.flags & TF_PASSIVE and not t.flags & TF_ASKED:
                user_accept(engine.tcp, t, ask.kind == ASK_ACCEPT)
        elif ask.kind == ASK_LISTEN:
            engine.listen(<uint16_t>ask.n, ask.value != 0)
        elif ask.kind == ASK_OPTION:
            engine.set_option(conn, <int>ask.n, ask.value)
        elif ask.kind == ASK_FASTOPEN:
            engine.fastopen(conn)
        elif ask.kind == ASK_UDP_BIND:
            if ask.value:
                udp_bind(engine.net, <uint16_t>ask.n)
            else:
                udp_unbind(engine.net, <uint16_t>ask.n)
        else:
            if ask.kind == ASK_CONNECT:
                _connect(self, engine, ask)
            elif ask.kind == ASK_CONGESTION:
                engine.set_congestion(conn, <const char*>pkt_data(pkt(engine.net.pool, ask.packet)))
            else:
                _udp_send(engine, ask)
            pkt_free(engine.net.pool, ask.packet)
        return True

    cdef void supply(self, Engine engine) noexcept nogil:
        """Empty packets for what the application sends, unless packets are scarce."""
        cdef uint32_t i
        cdef size_t before = ring_len(&self.c.stock)
        while ring_len(&self.c.stock) < self.c.stock.capacity and not pool_low(engine.net.pool):
            i = pkt_alloc(engine.net.pool)
            ring_push_u32(&self.c.stock, &i, 1)
        if unlikely(before == 0):
            bell_ring(&self.c.app)        # somebody may sleep whose send came short

    # -- an application that does not read, or is gone -----------------------------------------------------------

    cdef void watch(self, Engine engine, int64_t now) noexcept nogil:
        """Give the application up when its thread has ended, or has not read for too long."""
        cdef size_t head
        if self.gone:
            return
        head = load_acquire(&self.c.tells.head)
        if head != self.head_seen or head == self.c.tells.tail:
            self.head_seen = head
            self.moved_at = now
        if load_acquire(&self.c.app_gone) or (self.patience and now - self.moved_at > self.patience):
            self.give_up(engine)

    @property
    def given_up(self):
        """Whether the application's thread was found to have ended, or not to read."""
        return self.gone

    def supply_stock(self, Engine engine not None):
        """Before the threads start: packets for what the application sends first."""
        self.supply(engine)

    def end(self):
        """The network's thread has ended."""
        writer_flush(&self.out)
        store_release(&self.c.net_gone, 1)
        bell_ring(&self.c.app)

    def empty(self, Engine engine not None):
        """Both threads have ended: give back what lies in the rings, and pass on nothing any more."""
        self.gone = True
        engine.stalled = False
        self.drain(engine)

    cdef void give_up(self, Engine engine) noexcept nogil:
        """Abort its connections; new ones are refused."""
        cdef uint32_t i
        cdef Tcb* t
        if self.gone:
            return
        self.gone = True
        engine.stalled = False
        store_release(&self.c.given_up, 1)
        for i in range(engine.slab.high_water):
            if slab_live(engine.slab, i):
                t = tcb(engine.tcp, i)
                if t.state != CLOSED and t.state != TIME_WAIT:
                    user_abort(engine.tcp, t)
                    self.connections_aborted += 1

    cdef void drain(self, Engine engine) noexcept nogil:
        """Both threads have ended: give back every packet that lies in the rings."""
        cdef uint8_t* p
        cdef uint32_t i
        cdef Ask* ask
        writer_flush(&self.out)
        while ring_peek(&self.c.tells, 1, &p):
            if (<Tell*>p).kind == TELL_PAYLOAD or (<Tell*>p).kind == TELL_UDP:
                pkt_unhold(engine.net.pool, (<Tell*>p).packet)
            ring_release(&self.c.tells, 1)
        while ring_peek(&self.c.asks, 1, &p):
            ask = <Ask*>p
            if ask.kind == ASK_RELEASE:
                pkt_unhold(engine.net.pool, ask.packet)
            elif (ask.kind == ASK_SEND or ask.kind == ASK_CONNECT or ask.kind == ASK_CONGESTION
                    or ask.kind == ASK_UDP_SEND):
                pkt_free(engine.net.pool, ask.packet)
            ring_release(&self.c.asks, 1)
        while ring_pop_u32(&self.c.stock, &i, 1):
            pkt_free(engine.net.pool, i)


cdef inline uint64_t _name(Engine engine) noexcept nogil:
    """What the application calls the connection at hand: those that it opened itself it has named."""
    return engine.at_tcb.user if engine.at_tcb.user else engine.at_conn


cdef void _tell_open(Relay self, Engine engine, int kind, uint64_t conn) noexcept nogil:
    cdef Tcb* c = engine.at_tcb
    cdef Tell* t
    if self.gone:
        engine.abort(conn)
        return
    t = self.tell(engine, kind, _name(engine))
    if t == NULL:
        return
    t.local, t.remote = c.flow.src, c.flow.dst
    t.local_port, t.remote_port = c.lport, c.rport
    t.version, t.n, t.packet = c.flow.version, c.snd_buf, c.mss
    t.a = self.unasked == conn
    self.unasked = 0


cdef void _connect(Relay self, Engine engine, Ask* ask) noexcept nogil:
    cdef Call* call = <Call*>pkt_data(pkt(engine.net.pool, ask.packet))
    cdef uint32_t i = <uint32_t>ask.conn - self.base
    cdef int error = 0
    cdef Tell* t
    cdef uint64_t conn = 0 if self.gone else engine.connect(&call.remote, call.port, &call.source, call.source_port, &error)
    self.asked[i] = ask.conn
    self.opened[i] = conn
    if conn:
        engine.user(conn)[0] = ask.conn
    elif not self.gone:
        t = self.tell(engine, TELL_CLOSED, ask.conn)
        if t != NULL:
            t.a = CLOSE_UNREACHABLE if error == OPEN_NO_ROUTE else CLOSE_NO_MEMORY


cdef void _udp_send(Engine engine, Ask* ask) noexcept nogil:
    cdef uint8_t* p = pkt_data(pkt(engine.net.pool, ask.packet))
    cdef Call* call = <Call*>p
    cdef Flow flow
    memset(&flow, 0, sizeof(Flow))
    flow.src, flow.dst, flow.ttl, flow.tos = call.source, call.remote, call.ttl, call.tos
    if net_route(engine.net, &flow) == ok:
        udp_send(engine.net, &flow, call.source_port, call.port, p + sizeof(Call), ask.n)
