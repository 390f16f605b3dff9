"""The engine: packets, time and calls in; packets, callbacks and the next deadline out."""
import os

cimport cython
from libc.stdlib cimport calloc, free
from libc.string cimport memmove
from iip.memory.order cimport order_ahead
from iip.memory.pool cimport MOST_HEADERS, NIL, PKT_HELD, PKT_TX_TSO4, PKT_TX_TSO6, Packet, Pool, pkt, pkt_data, pkt_free
from iip.memory.raw cimport CACHE_LINE
from iip.memory.slab cimport slab_in_use, slab_live, slab_lookup
from iip.net.gro cimport gro_burst
from iip.net.gso cimport finish_checksum, gso_segment
from iip.net.net cimport net_input, net_loopback_pop, net_next_deadline, net_setup, net_teardown, net_timers
from iip.net.neighbour cimport neigh_rebase
from iip.net.state cimport NE_UDP
from iip.net.types cimport (
    CAP_LRO, CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_IP_CSUM, CAP_TX_L4_CSUM, IpRx, PROTO_TCP)
from iip.net.udp cimport udp_input
from iip.tcp.congestion cimport congestion_named, congestion_switch
from iip.tcp.conn cimport conn_drop_payload, conn_release, mark_dirty, mark_ready
from iip.tcp.input cimport tcp_icmp, tcp_input
from iip.tcp.options cimport options_get, options_set
from iip.tcp.lookahead cimport AHEAD_ENTRY, AHEAD_MANY, Ahead, ahead_pays, look_ahead
from iip.tcp.output cimport tcp_flush
from iip.tcp.setup cimport tcp_clock, tcp_setup, tcp_teardown
from iip.tcp.tcb cimport *
from iip.tcp.timers cimport tcp_timers
from iip.tcp.user cimport (
    user_abort, user_accept, user_close, user_consume, user_fastopen, user_open, user_send, user_send_packet,
    user_send_room, user_shutdown)
from iip.verdict cimport N_VERDICTS, count, count_n, icmp_in_error, ok, rx_bytes, rx_packets, tx_bytes, tx_packets
from iip.wire.bytes cimport likely, prefetch, unlikely
from iip.wire.ethernet cimport ETH_HLEN

from iip.errors import ConfigError

cdef enum:
    MAX_LOOPED = 256              # packets to ourselves handled in one run
    OFFERED = 256                 # packets offered to the driver at once
    EXPECTED = 16                 # packets that are asked for before their turn
    MAX_LATE = 16                 # full bursts in a row that timers wait for
    SOFTWARE_CAPS = CAP_TSO4 | CAP_TSO6 | CAP_TX_IP_CSUM | CAP_TX_L4_CSUM     # what segmentation in software offers

cdef int64_t RETRY = 200000       # ns: the driver or a pool had no room; look again soon


cdef class NativeHandler:
    """Base of handlers written in Cython: override what you need. Runs without the GIL."""

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        """A SYN for a listening port; any field may decide. False: it is answered with RST."""
        return True

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        """A connection we accepted is established."""

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        """A connection we opened is established."""

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        """The next `n` bytes in order, valid during the call. `consume` opens the window again."""
        engine.consume(conn, n)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        """The peer acknowledged `n` more bytes: there is room to send. 0: there is memory again for a `send` that came
        short."""

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        """The peer sent FIN: no more payload comes. By default we close too."""
        engine.close_connection(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        """The connection is over (CloseReason); its handle is void after this call."""

    cdef void udp_payload(self, Engine engine, const Datagram* datagram) noexcept nogil:
        """A datagram for a bound port."""

    cdef void net_event(self, Engine engine, NetEvent* event) noexcept nogil:
        """Anything else from the network layer: ICMP replies and errors, ARP replies, address conflicts."""

    cdef void deliver(self, Engine engine) noexcept nogil:
        """The deliver phase of a run in which something happened. Whoever overrides this calls `engine.deliver()` once,
        which makes all the calls above, and may do something before and after."""
        engine.deliver()


@cython.no_gc_clear               # giving the packets back takes the pool and the driver
cdef class Engine:
    """One TCP/IP stack. It does protocol processing and nothing else; `run` is the only thing that happens.

    config: `iip.Config`; native: the handler; driver: where packets come from and go to; pool: a
    `PacketPool` to share (on one thread), by default one of its own from the settings; seed: 64 bits that
    decide every random choice, None: from the operating system.
    """

    def __cinit__(self, *args, **kwargs):
        self.current = self.rest = NIL
        self.closed = True        # until it is set up

    def __init__(self, config, NativeHandler native not None, Driver driver not None, PacketPool pool=None, seed=None):
        if self.net != NULL:
            raise RuntimeError("an engine is set up once; make a new one")
        config = _fit(config, driver)
        if pool is None:
            pool = PacketPool(config.pool_packets, config.packet_size, config.headroom)
        if seed is None:
            seed = int.from_bytes(os.urandom(8), "little")
        self.config = config
        self.native = native
        self.driver = driver
        self.pool = pool
        self.burst = config.burst
        cell = pool.packet_size - pool.headroom
        # a packet must always be able to come in, or no acknowledgement frees anything
        largest = 65535 if driver.caps & CAP_LRO else config.mtu
        pool.c.headers = max(pool.c.headers, min(pool.c.headroom, MOST_HEADERS + (ETH_HLEN if config.medium == "ethernet" else 0)))
        pool.c.reserve = max(pool.c.reserve, min(pool.c.n_direct >> 2, (largest + ETH_HLEN + cell - 1) // cell + 1))
        self.gro = config.gro
        self.gso = config.gso and driver.caps & CAP_SG and not (driver.caps & CAP_TSO4 and driver.caps & CAP_TSO6)
        self._allocate(config, seed & 0xFFFFFFFFFFFFFFFF)
        driver.attach(pool)

    def _allocate(self, config, uint64_t seed):
        self.counters = <uint64_t*>calloc(<size_t>N_VERDICTS, sizeof(uint64_t))
        self.rx = <uint32_t*>calloc(self.burst, sizeof(uint32_t))
        self.tcp = <Tcp*>calloc(1, sizeof(Tcp))
        self.slab = <Slab*>calloc(1, sizeof(Slab))
        cdef Net* net = <Net*>calloc(1, sizeof(Net))
        if self.counters == NULL or self.rx == NULL or self.tcp == NULL or self.slab == NULL or net == NULL:
            free(net)
            raise MemoryError("no memory for an engine")
        try:
            net_setup(net, config, &self.pool.c, self.counters, seed,
                      self.driver.caps | (SOFTWARE_CAPS if self.gso else 0))
        except BaseException:
            free(net)
            raise
        self.net = net
        try:
            tcp_setup(self.tcp, config, net, self.slab, seed ^ 0x5DEECE66D5DEECE6)
        except BaseException:
            net_teardown(net)
            raise
        self.tcp.engine = <void*>self
        self.closed = False

    def __dealloc__(self):
        self.shut()
        free(self.counters)
        free(self.rx)
        free(self.tcp)
        free(self.slab)
        free(self.net)

    cdef void shut(self):
        """Give every packet back."""
        cdef uint32_t i
        cdef Tcb* t
        if self.closed:
            return
        self.closed = True
        for i in range(self.slab.high_water):
            if slab_live(self.slab, i):
                t = tcb(self.tcp, i)
                t.flags &= ~<uint32_t>(TF_DIRTY | TF_READY)
                conn_release(self.tcp, t)
        for i in range(self.n_segments):
            pkt_free(&self.pool.c, self.segments[i])
        self.n_segments = 0
        pkt_free(&self.pool.c, self.rest)
        self.rest = NIL
        net_teardown(self.net)
        tcp_teardown(self.tcp)
        self.pool.drain_released()

    # -- the five phases -----------------------------------------------------------------------------------

    cdef int64_t run_c(self, int64_t now) noexcept nogil:
        """One pass: input, timers, deliver, output, return. The time at which to run again, ns;
        not later than `now` when there is more to do at once, INT64_MAX when only a packet changes anything."""
        cdef int received
        now = max(now, self.net.now)
        if unlikely(self.net.now == 0):
            neigh_rebase(self.net, now)
        self.net.now = now
        tcp_clock(self.tcp, now)
        received = _input_phase(self, now)
        if now >= net_next_deadline(self.net):
            net_timers(self.net)
        if likely(received < self.burst) or self.late == MAX_LATE:
            tcp_timers(self.tcp)
            self.late = 0
        else:                     # what is still in the driver may be the answer a timer is waiting for
            self.late += 1
        if likely(self.tcp.ready_head != NIL or self.net.n_events):
            self.native.deliver(self)
        tcp_flush(self.tcp)
        _transmit_phase(self, now)
        return _next_deadline(self, now, received)

    cdef void deliver(self) noexcept nogil:
        """All callbacks of this run: for `NativeHandler.deliver` alone."""
        cdef Tcb* t
        while self.tcp.ready_head != NIL and not self.stalled:
            t = tcb(self.tcp, self.tcp.ready_head)
            self.tcp.ready_head = t.ready_next
            if self.tcp.ready_head == NIL:
                self.tcp.ready_tail = NIL
            t.flags &= ~<uint32_t>TF_READY
            _deliver(self, t)
        self.at_conn = 0
        if unlikely(self.net.n_events != 0):
            _deliver_net_events(self)

    # -- the application's calls ---------------------------------------------------------------------------

    cdef Tcb* lookup(self, uint64_t conn) noexcept nogil:
        """The connection of a handle, NULL if it is gone (or over, as far as the application is concerned)."""
        return _find(self, conn)

    cdef uint64_t handle(self, Tcb* t) noexcept nogil:
        return tcb_handle(t)

    cdef int64_t send(self, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        """Queue a copy of `data`. The bytes taken (fewer when the send buffer or the pool is full), -1 when the
        connection is gone or was shut down."""
        cdef Tcb* t = _find(self, conn)
        return -1 if t == NULL else user_send(self.tcp, t, data, n)

    cdef int64_t send_packet(self, uint64_t conn, uint32_t owner, uint32_t offset, uint32_t n) noexcept nogil:
        """Queue `n` bytes from `offset` of packet `owner` by reference; like `send`."""
        cdef Tcb* t = _find(self, conn)
        return -1 if t == NULL else user_send_packet(self.tcp, t, owner, offset, n)

    cdef uint32_t send_room(self, uint64_t conn) noexcept nogil:
        """Bytes that `send` takes now."""
        cdef Tcb* t = _find(self, conn)
        return 0 if t == NULL else user_send_room(self.tcp, t)

    cdef void consume(self, uint64_t conn, uint32_t n) noexcept nogil:
        """The application is done with `n` received bytes: open the window by as much."""
        cdef Tcb* t = _find(self, conn)
        if likely(t != NULL):
            user_consume(self.tcp, t, n)

    cdef void shutdown(self, uint64_t conn) noexcept nogil:
        """Send FIN after what is queued; receiving goes on."""
        cdef Tcb* t = _find(self, conn)
        if t != NULL:
            user_shutdown(self.tcp, t)

    cdef void close_connection(self, uint64_t conn) noexcept nogil:
        """Send FIN after what is queued; receive no more. `tcp_closed` follows when the peer has agreed."""
        cdef Tcb* t = _find(self, conn)
        if t != NULL:
            user_close(self.tcp, t)

    cdef void abort(self, uint64_t conn) noexcept nogil:
        """Send RST and drop everything. `tcp_closed` follows."""
        cdef Tcb* t = _find(self, conn)
        if t != NULL:
            user_abort(self.tcp, t)

    cdef uint64_t* user(self, uint64_t conn) noexcept nogil:
        """A word of the connection for the application's own use, 0 at first; NULL if the connection is gone."""
        cdef Tcb* t = _find(self, conn)
        return NULL if t == NULL else &t.user

    cdef int set_option(self, uint64_t conn, int option, int64_t value) noexcept nogil:
        """Set an option (CO_*) of a connection. 0, or -1: it is gone, or the value is out of range."""
        cdef Tcb* t = _find(self, conn)
        return -1 if t == NULL else options_set(self.tcp, t, option, value)

    cdef int64_t option(self, uint64_t conn, int option) noexcept nogil:
        """The value of an option (CO_*); -2 if the connection is gone."""
        cdef Tcb* t = _find(self, conn)
        return -2 if t == NULL else options_get(self.tcp, t, option)

    cdef uint32_t unsent(self, uint64_t conn) noexcept nogil:
        """Bytes queued that were not sent yet."""
        cdef Tcb* t = _find(self, conn)
        return 0 if t == NULL else t.unsent

    cdef uint64_t connect(self, const Addr* remote, uint16_t port, const Addr* source, uint16_t source_port,
                          int* error) noexcept nogil:
        """Open a connection; the handle, or 0 with `error` set (OPEN_*)."""
        cdef Tcb* t = user_open(self.tcp, source, remote, source_port, port, error)
        return 0 if t == NULL else tcb_handle(t)

    cdef void fastopen(self, uint64_t conn) noexcept nogil:
        """Let what is queued before the next run go with the SYN (RFC 7413); the server may see it twice."""
        cdef Tcb* t = _find(self, conn)
        if t != NULL:
            user_fastopen(self.tcp, t)

    cdef bint set_congestion(self, uint64_t conn, const char* name) noexcept nogil:
        """Another congestion control, by its name. False: there is none of that name, or the connection is gone."""
        cdef Tcb* t = _find(self, conn)
        cdef const CongestionOps* ops = congestion_named(name)
        if t == NULL or ops == NULL:
            return False
        congestion_switch(self.tcp, t, ops, NULL)
        return True

    cdef void listen(self, uint16_t port, bint on) noexcept nogil:
        """Offer SYNs for `port` (0: every port) to `tcp_accept`, or stop doing so."""
        if on:
            self.tcp.listening[port >> 6] |= <uint64_t>1 << (port & 63)
        else:
            self.tcp.listening[port >> 6] &= ~(<uint64_t>1 << (port & 63))


# -- phase 1: input ----------------------------------------------------------------------------------------

cdef inline void _input_one(Engine self, uint32_t packet) noexcept nogil:
    """Link, network, transport: each returns a verdict, and this is the place that counts it."""
    cdef IpRx rx
    cdef int verdict = net_input(self.net, packet, &rx)
    if likely(verdict == ok):
        if likely(rx.proto == PROTO_TCP):
            verdict = tcp_input(self.tcp, &rx)
        else:
            verdict = udp_input(self.net, &rx)
    elif verdict == icmp_in_error and self.net.icmp_error.proto == PROTO_TCP:
        tcp_icmp(self.tcp, &self.net.icmp_error)
    count(self.counters, verdict)


cdef inline uint32_t _expect(Engine self, int i, int n) noexcept nogil:
    """Ask for the headers of packet `i` of the `n` that came and for its second piece, and for the descriptor of a later one. The
    packet's length."""
    cdef Pool* pool = self.net.pool
    cdef Packet* k = pkt(pool, self.rx[i])
    cdef const uint8_t* p = pkt_data(k)
    if i + <int>EXPECTED < n:
        prefetch(pkt(pool, self.rx[i + <int>EXPECTED]))
    prefetch(p)
    prefetch(p + min(k.len, <uint32_t>CACHE_LINE) - 1)
    if k.next != NIL:
        prefetch(pkt(pool, k.next))
    return k.total_len


cdef uint64_t _input_few(Engine self, int n, int expected) noexcept nogil:
    """A burst, of which `expected` packets were asked for. The bytes of the others."""
    cdef uint64_t octets = 0
    cdef int i
    for i in range(n):
        if expected < n:
            octets += _expect(self, expected, n)
            expected += 1
        _input_one(self, self.rx[i])
    return octets


cdef uint64_t _input_many(Engine self, int n, int expected) noexcept nogil:
    """The same for so many connections that no cache holds them."""
    cdef Ahead ahead
    cdef uint64_t octets = 0
    cdef int i
    for i in range(-AHEAD_ENTRY, n):
        if expected < n:
            octets += _expect(self, expected, n)
            expected += 1
        look_ahead(self.tcp, &ahead, self.rx, n, i)
        if i >= 0:
            _input_one(self, self.rx[i])
    return octets


cdef inline Tcb* _find(Engine self, uint64_t conn) noexcept nogil:
    """The connection of a handle, NULL if it is gone. In a callback it is mostly the one that the callback is about."""
    cdef Tcb* t = self.at_tcb if likely(conn == self.at_conn) else <Tcb*>slab_lookup(self.slab, conn)
    if unlikely(t == NULL) or not t.flags & TF_USED:
        return NULL
    return t


cdef int _input_phase(Engine self, int64_t now) noexcept nogil:
    cdef int n = self.driver.rx_burst(now, self.rx, self.burst), i, _i
    cdef uint32_t looped
    cdef uint64_t octets = 0
    cdef int received = n, expected
    cdef bint many
    if n:
        many = slab_in_use(self.slab) > AHEAD_MANY and ahead_pays(self.tcp, n)
        expected = n if unlikely(self.gro) else min(n, <int>EXPECTED)
        for i in range(expected):
            octets += _expect(self, i, n)
        count_n(self.counters, rx_packets, n)
        if unlikely(self.gro) and n > 1:
            n = gro_burst(self.net, self.rx, n)
        octets += _input_many(self, n, expected) if unlikely(many) else _input_few(self, n, expected)
        count_n(self.counters, rx_bytes, octets)
    if unlikely(self.net.loop_head != NIL):
        for _i in range(MAX_LOOPED):
            looped = net_loopback_pop(self.net)
            if looped == NIL:
                break
            _input_one(self, looped)
    return received


# -- phase 3: deliver --------------------------------------------------------------------------------------

cdef void _deliver_syn(Engine self, Tcb* t) noexcept nogil:
    cdef SynInfo syn
    cdef bint accepted
    syn.local = t.flow.src
    syn.remote = t.flow.dst
    syn.local_port = t.lport
    syn.remote_port = t.rport
    syn.mss = t.peer_mss
    syn.version = t.flow.version
    syn.sack = (t.flags & TF_SACK) != 0
    syn.timestamps = (t.flags & TF_TS) != 0
    syn.window_scale = (t.flags & TF_WSCALE) != 0
    accepted = self.native.tcp_accept(self, &syn)
    if unlikely(self.undecided):
        self.undecided = False
    else:
        user_accept(self.tcp, t, accepted)


cdef bint _ask(Engine self, Tcb* t) noexcept nogil:
    """Ask about a SYN. True: the connection is open at once, because Fast Open or a SYN cookie says who the peer is."""
    if t.state == CLOSED:
        return False
    _deliver_syn(self, t)
    return t.flags & TF_ASKED and (t.state >= ESTABLISHED or t.fastopen & FO_OPEN)


cdef void _deliver_payload(Engine self, Tcb* t, uint64_t conn, bint over) noexcept nogil:
    """What came in order. A connection that is `over` does not wait for an application that paused."""
    cdef uint32_t i, piece
    cdef Packet* k
    while t.rx_head != NIL:
        if unlikely(t.flags & TF_ORPHAN):
            conn_drop_payload(self.tcp, t)
            return
        if unlikely(self.stalled):
            mark_ready(self.tcp, t, EV_PAYLOAD)
            return
        if unlikely(t.modes & MD_PAUSED) and not over:
            t.events |= EV_PAYLOAD
            return
        i = t.rx_head
        k = pkt(self.net.pool, i)
        t.rx_head = k.qnext
        if t.rx_head == NIL:
            t.rx_tail = NIL
        elif k.flags & PKT_HELD:  # many may have waited with it
            prefetch(pkt(self.net.pool, order_ahead(&self.tcp.held, k)))
        piece = i
        while piece != NIL and not t.flags & TF_ORPHAN and t.close_reason != CLOSE_ABORTED:
            k = pkt(self.net.pool, piece)
            if k.len:
                self.current = piece
                self.native.tcp_payload(self, conn, pkt_data(k), k.len)
            piece = k.next
        self.current = NIL
        pkt_free(self.net.pool, i)


cdef void _deliver(Engine self, Tcb* t) noexcept nogil:
    """All that happened to one connection, in order. A callback may call anything; the slot stays until the
    output phase."""
    cdef uint32_t events = t.events, n
    cdef uint64_t conn = tcb_handle(t)
    self.at_conn = conn
    self.at_tcb = t
    t.events = 0
    if likely(not events & ~<uint32_t>(EV_PAYLOAD | EV_ACKED)):
        pass
    elif events & EV_SYN and not _ask(self, t):
        return
    else:
        mark_dirty(self.tcp, t)   # nobody takes the slot while its callbacks run
        if events & EV_ACCEPTED:
            t.flags |= TF_USED
            self.native.tcp_accepted(self, conn)
        if events & EV_CONNECTED:
            self.native.tcp_connected(self, conn)
    if events & EV_ACKED and t.flags & TF_USED:
        n = t.acked
        if unlikely(t.lowat) and t.unsent >= t.lowat and not events & EV_CLOSED:
            t.modes |= MD_HELD
        else:
            t.acked = 0
            if not t.flags & TF_ORPHAN:
                self.native.tcp_acked(self, conn, n)
    if events & EV_PAYLOAD:
        _deliver_payload(self, t, conn, (events & EV_CLOSED) != 0)
    if unlikely(self.stalled):
        if events & (EV_SHUTDOWN | EV_CLOSED):
            mark_ready(self.tcp, t, events & (EV_SHUTDOWN | EV_CLOSED))
    elif unlikely(t.modes & MD_PAUSED) and not events & EV_CLOSED:
        t.events |= events & EV_SHUTDOWN      # after the payload, when the application resumes
    elif events & EV_SHUTDOWN and t.flags & TF_USED and not t.flags & TF_ORPHAN and t.close_reason != CLOSE_ABORTED:
        self.native.tcp_shutdown(self, conn)
    if events & EV_CLOSED and t.flags & TF_USED and not self.stalled:
        self.native.tcp_closed(self, conn, t.close_reason)
        t.flags &= ~<uint32_t>TF_USED


cdef void _deliver_net_events(Engine self) noexcept nogil:
    cdef uint32_t i, n = self.net.n_events
    cdef NetEvent* e
    cdef Datagram d
    cdef Packet* k
    for i in range(n):
        e = &self.net.events[i]
        if e.type == NE_UDP:
            k = pkt(self.net.pool, e.pkt)
            self.current = e.pkt
            d.source = e.src
            d.destination = e.dst
            d.source_port = e.sport
            d.destination_port = e.dport
            d.version = e.version
            d.ttl = e.ttl
            d.tos = e.tos
            d.n = e.len
            d.data = pkt_data(k) + e.off if e.off + e.len <= k.len else NULL
            self.native.udp_payload(self, &d)
        else:
            self.current = e.pkt
            self.native.net_event(self, e)
        self.current = NIL
        if e.pkt != NIL:
            pkt_free(self.net.pool, e.pkt)
            e.pkt = NIL
    if self.net.n_events > n:     # callbacks caused more: the next run delivers them
        memmove(self.net.events, &self.net.events[n], (self.net.n_events - n) * sizeof(NetEvent))
    self.net.n_events -= n


# -- phase 5: return ---------------------------------------------------------------------------------------

cdef void _transmit_phase(Engine self, int64_t now) noexcept nogil:
    """Offer what is queued to the driver, not much more at a time than it may take; what it does not take waits."""
    cdef uint32_t n, done = 0, taken
    cdef uint32_t* txq = self.net.txq
    if unlikely(self.gso):
        _transmit_segments(self, now)
        return
    while done < self.net.tx_len:
        n = min(self.net.tx_len - done, <uint32_t>OFFERED)
        taken = _offer(self, now, txq + done, n)
        done += taken
        if unlikely(taken < n):
            memmove(txq, txq + done, (self.net.tx_len - done) * sizeof(uint32_t))
            break
    self.net.tx_len -= done


cdef uint32_t _offer(Engine self, int64_t now, const uint32_t* packets, uint32_t n) noexcept nogil:
    """How many of them the driver took."""
    cdef uint64_t octets = 0
    cdef uint32_t i, sent
    for i in range(n):
        octets += pkt(self.net.pool, packets[i]).total_len
    sent = <uint32_t>self.driver.tx_burst(now, packets, <int>n)
    for i in range(sent, n):
        octets -= pkt(self.net.pool, packets[i]).total_len
    count_n(self.counters, tx_packets, sent)
    count_n(self.counters, tx_bytes, octets)
    return sent


cdef bint _offer_segments(Engine self, int64_t now) noexcept nogil:
    """To the driver what was cut. False when it does not take all of it."""
    cdef uint64_t octets = 0
    cdef uint32_t i
    cdef uint32_t size[64]
    cdef int sent
    if self.n_segments == 0:
        return True
    for i in range(self.n_segments):
        size[i] = pkt(self.net.pool, self.segments[i]).total_len
    sent = self.driver.tx_burst(now, self.segments, <int>self.n_segments)
    for i in range(<uint32_t>sent):
        octets += size[i]
    self.n_segments -= sent
    memmove(self.segments, self.segments + sent, self.n_segments * sizeof(uint32_t))
    count_n(self.counters, tx_packets, sent)
    count_n(self.counters, tx_bytes, octets)
    return self.n_segments == 0


cdef void _transmit_segments(Engine self, int64_t now) noexcept nogil:
    """The same for a device that leaves segmentation to us: what was built in one piece is cut at the last moment, and
    checksums that the device does not know are computed."""
    cdef uint32_t i = 0, packet, caps = self.driver.caps
    cdef uint32_t* txq = self.net.txq
    while _offer_segments(self, now):
        if self.rest != NIL:
            self.n_segments = gso_segment(self.net.pool, &self.rest, self.segments, 64, caps)
            if self.n_segments == 0 and self.rest != NIL:
                break             # no memory: later
        elif i == self.net.tx_len:
            break
        while self.rest == NIL and i < self.net.tx_len and self.n_segments < 64:
            packet = txq[i]
            i += 1
            if pkt(self.net.pool, packet).flags & (PKT_TX_TSO4 | PKT_TX_TSO6):
                self.rest = packet
            else:
                finish_checksum(self.net.pool, packet, caps)
                self.segments[self.n_segments] = packet
                self.n_segments += 1
    self.net.tx_len -= i
    memmove(txq, txq + i, self.net.tx_len * sizeof(uint32_t))


cdef int64_t _next_deadline(Engine self, int64_t now, int received) noexcept nogil:
    cdef int64_t at
    if received == self.burst or self.tcp.ready_head != NIL or self.net.loop_head != NIL or self.net.n_events:
        return now
    at = min(self.tcp.next_timer, min(net_next_deadline(self.net), self.driver.poll_at(now)))
    if self.net.tx_len or self.tcp.dirty_head != NIL or self.n_segments or self.rest != NIL:
        at = min(at, now + RETRY)
    return at


def _fit(config, driver):
    """Take medium, MTU and station address from the driver where the settings leave them at their defaults."""
    changes = {}
    if config.medium != driver.medium:
        changes["medium"] = driver.medium
    if config.mac is None and driver.mac is not None:
        changes["mac"] = driver.mac.hex(":")
    if config.mtu > driver.mtu:
        if config.mtu != 1500:
            raise ConfigError(f"mtu={config.mtu}: the driver's device takes {driver.mtu} bytes; "
                              f"use mtu={driver.mtu} or raise the device's MTU")
        changes["mtu"] = driver.mtu
    return config.replace(**changes) if changes else config
