"""The engine as Python programs see it."""
cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from iip.address cimport addr_object, addr_parse
from iip.batch cimport BatchHandler
from iip.connection cimport Connection, connection_new
from iip.engine cimport Engine as CoreEngine, NativeHandler
from iip.handler cimport PythonHandler, bound
from iip.memory.slab cimport slab_in_use, slab_live
from iip.net.address cimport net_join, net_leave
from iip.net.icmp cimport net_ping
from iip.net.net cimport net_arp_request
from iip.net.route cimport net_route
from iip.net.setup cimport net_readdress
from iip.net.solicit cimport nd_solicit_routers
from iip.net.types cimport MEDIUM_ETHERNET, Addr, Flow, addr_eq
from iip.net.udp cimport udp_bind, udp_send, udp_unbind
from iip.tcp.inspect cimport tcp_snapshot
from iip.tcp.setup cimport tcp_configure
from iip.tcp.tcb cimport CLOSED, TIME_WAIT, Tcb, tcb
from iip.tcp.user cimport OPEN_IN_USE, OPEN_NO_PORT, OPEN_NO_ROUTE, user_abort
from iip.verdict cimport count, ip_no_route, ip_too_big, ok

import numpy as np

from iip.errors import ConfigError, ConnectionGone, Exhausted, IipError
from iip.stats import NAMES, Stats
from iip.verdict import Verdict


_CHANGEABLE = frozenset({
    "send_buffer", "send_buffer_max", "receive_buffer", "receive_buffer_max", "autotune", "unsent_low", "delayed_ack_max",
    "quick_acks", "strict_timestamps", "mtu_probing", "mtu_probing_base", "mtu_probing_interval", "out_of_order",
    "max_half_open", "syn_cookies", "rst_rate", "challenge_rate", "persist_timeout", "mss", "window_scale", "sack",
    "dsack", "timestamps", "option_order", "idle_restart", "rto_min",
    "rto_max", "rto_initial", "syn_retries", "synack_retries", "retries", "delayed_ack", "time_wait", "fin_wait2",
    "keepalive", "keepalive_interval", "keepalive_probes", "user_timeout", "nagle", "initial_window", "congestion",
    "copy_threshold", "ports", "pacing", "max_pacing_rate", "ecn", "ecn_option"})
_PLACES = frozenset({"addresses", "routes", "gateway", "gateway6"})


cdef object _aligned(object conns):
    """A column of packed records may lie anywhere: then a copy."""
    return np.require(conns, requirements="A") if isinstance(conns, np.ndarray) else conns


@cython.no_gc_clear
cdef class Engine(CoreEngine):
    """One TCP/IP stack inside your program.

    config: `iip.Config`; handler: an object with callbacks (`iip.Handler`) or a `NativeHandler` written in
    Cython; driver: where packets come from and go to; pool: a `PacketPool` shared with other engines of the
    same thread, by default one of its own; seed: an int that decides every random choice, None: from
    the operating system.

    The engine owns no thread, clock or descriptor: call `run(now)` whenever the driver may have packets and
    when the time it returned has come, or let `iip.runtime.run` do so.
    """

    cdef readonly object handler

    def __init__(self, config, handler, driver, pool=None, seed=None):
        native = handler
        if not isinstance(handler, NativeHandler):
            native = (PythonHandler if bound(handler, "tcp_events") is None else BatchHandler)(handler)
        CoreEngine.__init__(self, config, native, driver, pool, seed)
        self.handler = handler

    def run(self, now):
        """One pass at time `now` (int, ns; a time before that of the last pass counts as that). Returns when to
        call again: ns, not later than `now` when there is more to do at once, None when only a packet or a call
        changes anything.

        Raises what a callback or the driver raised, after the pass is complete.
        """
        cdef int64_t at, t = now
        self._open()
        self._outside("run")
        self.running = True
        with nogil:
            at = self.run_c(t)
        self.running = False
        self.pool.drain_released()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.driver.error is not None:
            error, self.driver.error = self.driver.error, None
            raise error
        return None if at == INT64_MAX else at

    cdef int _open(self) except -1:
        if self.closed:
            raise IipError("the engine is closed")
        return 0

    cdef int _outside(self, str call) except -1:
        if self.running:
            raise IipError(f"{call}() was called from a callback; note that it is wanted, and call it after run()")
        return 0

    def close(self):
        """Give every packet back to the pool; connections end without a word to their peers (abort them and run
        once more to send RST). The driver stays open. Closing twice is allowed."""
        cdef uint32_t i
        cdef Tcb* t
        cdef list objects = []
        if self.closed:
            return
        self._outside("close")
        for i in range(self.slab.high_water):
            if slab_live(self.slab, i):
                t = tcb(self.tcp, i)
                if t.object != NULL:
                    objects.append(<object>t.object)
                    (<Connection>t.object).release()
                    t.object = NULL
        self.shut()

    # -- TCP -----------------------------------------------------------------------------------------------

    def tcp_listen(self, port, on=True):
        """Offer SYNs for `port` to the handler's `tcp_accept`; port 0 means every port. `on=False` stops it."""
        self._open()
        self.listen(_port(port, "port", 0), on)

    def tcp_connect(self, address, port, *, source=None, source_port=0, data=None):
        """Open a connection; `tcp_connected` or `tcp_closed` follows. Returns the `Connection`, on which data may
        be queued at once. `source` and `source_port` are chosen when left out.

        data: queued, and if `Config.fastopen` allows and the server has given us a cookie before, sent with the
        SYN (RFC 7413). The server's application may then see it twice: only for requests that may be repeated.
        """
        cdef Addr remote, local
        cdef int error = 0
        cdef uint64_t handle
        self._open()
        memset(&local, 0, sizeof(Addr))
        addr_parse(address, &remote, "address")
        if source is not None:
            addr_parse(source, &local, "source")
        handle = self.connect(&remote, _port(port, "port", 1), &local, _port(source_port or 0, "source_port", 0),
                              &error)
        if handle == 0:
            raise _open_error(error, address, port, source, source_port)
        conn = connection_new(self, handle)
        if data is not None:
            self.fastopen(handle)
            if conn.send(data) != memoryview(data).nbytes:
                conn.abort()
                raise Exhausted("data: more than a connection holds now; raise Config.send_buffer or Config.pool_packets, "
                                "or send the rest once connected")
        return conn

    def abort_all(self):
        """Abort every connection, for a program that ends: run once more to send the RSTs. Returns how many."""
        cdef uint32_t i
        cdef Tcb* t
        cdef int n = 0
        self._open()
        for i in range(self.slab.high_water):
            if slab_live(self.slab, i):
                t = tcb(self.tcp, i)
                if t.state != CLOSED and t.state != TIME_WAIT:
                    user_abort(self.tcp, t)
                    n += 1
        return n

    def connections(self):
        """All connections as a structured numpy array: addresses, ports, state, RFC variables.
        `iip.tcp.inspect.ROW` describes the fields."""
        self._open()
        return tcp_snapshot(self.tcp)

    def reconfigure(self, **changes):
        """Change TCP settings of the running engine: timers, retries, what new connections offer and start with.
        Connections that exist keep their buffers and what was negotiated. Or its `addresses`, `routes` and gateways: connections
        from an address that goes are aborted, and a new one is checked for a conflict. Raises ConfigError for other settings."""
        self._open()
        for name in changes:
            if name not in _CHANGEABLE and name not in _PLACES:
                raise ConfigError(f"{name}: cannot be changed at a running engine; make a new one")
        config = self.config.replace(**changes)
        if not _PLACES.isdisjoint(changes):
            self._outside("reconfigure")
            net_readdress(self.net, config)
            for address in {i.ip for i in self.config.interfaces} - {i.ip for i in config.interfaces}:
                self._abort_from(address)
        tcp_configure(&self.tcp.conf, config)
        self.config = config

    cdef int _abort_from(self, object address) except -1:
        """End the connections of an address that we have no more."""
        cdef Addr ours
        cdef uint32_t i
        cdef Tcb* t
        addr_parse(address, &ours, "address")
        for i in range(self.slab.high_water):
            if slab_live(self.slab, i):
                t = tcb(self.tcp, i)
                if t.state != CLOSED and t.state != TIME_WAIT and addr_eq(&t.flow.src, &ours):
                    user_abort(self.tcp, t)
        return 0

    # -- many connections in one call, by handle ---------------------------------------------------------------

    def connect_many(self, address, port, n, *, source=None):
        """Open `n` connections. Returns their handles, an array of uint64: fewer when ports or slots run out, which
        raises if there is none at all."""
        cdef Addr remote, local
        cdef uint16_t to = _port(port, "port", 1)
        cdef int error = 0
        cdef Py_ssize_t i, wanted = n
        self._open()
        memset(&local, 0, sizeof(Addr))
        addr_parse(address, &remote, "address")
        if source is not None:
            addr_parse(source, &local, "source")
        out = np.empty(wanted, np.uint64)
        cdef uint64_t[::1] handles = out
        for i in range(wanted):
            handles[i] = self.connect(&remote, to, &local, 0, &error)
            if handles[i] == 0:
                if i == 0:
                    raise _open_error(error, address, port, source, 0)
                return out[:i].copy()
        return out

    def connection(self, handle):
        """The `Connection` of a handle."""
        cdef Tcb* t = NULL if self.closed else self.lookup(handle)
        if t == NULL:
            raise ConnectionGone("the connection is closed, or its handle is of another engine")
        return <Connection>t.object if t.object != NULL else connection_new(self, handle)

    def send_many(self, conns, data):
        """Queue data on many connections. data: one buffer, of which each gets all, or a list with a buffer for each.
        How many bytes each took, an array of int64: -1 when the connection is gone or was shut down. As with
        `Connection.send`, long `bytes` for all are referenced and everything else is copied."""
        cdef const uint64_t[:] handles = _aligned(conns)
        cdef Py_buffer view
        cdef Py_ssize_t i, n = handles.shape[0]
        self._open()
        out = np.empty(n, np.int64)
        cdef int64_t[::1] taken = out
        if isinstance(data, (list, tuple)):
            if len(data) != n:
                raise ValueError(f"data: {len(data)} buffers for {n} connections")
            for i in range(n):
                PyObject_GetBuffer(data[i], &view, PyBUF_SIMPLE)
                taken[i] = self.send(handles[i], <const uint8_t*>view.buf, <uint32_t>min(view.len, 0x7FFFFFFF))
                PyBuffer_Release(&view)
            return out
        if type(data) is bytes and len(data) > self.tcp.conf.copy_threshold and n:
            lent = self.pool.lend(data)
            if lent is not None:
                for i in range(n):
                    taken[i] = self.send_packet(handles[i], lent, 0, <uint32_t>min(len(data), 0x7FFFFFFF))
                self.pool.free(lent)
                return out
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        for i in range(n):
            taken[i] = self.send(handles[i], <const uint8_t*>view.buf, <uint32_t>min(view.len, 0x7FFFFFFF))
        PyBuffer_Release(&view)
        return out

    def consume_many(self, conns, n):
        """Received bytes of many connections are dealt with: `n` of each, or an array with a number for each."""
        cdef const uint64_t[:] handles = _aligned(conns)
        cdef const uint32_t[:] numbers
        cdef Py_ssize_t i
        self._open()
        if isinstance(n, int):
            numbers = np.full(handles.shape[0], n, np.uint32)
        else:
            numbers = np.require(n, np.uint32, "CA")
        if numbers.shape[0] != handles.shape[0]:
            raise ValueError(f"n: {numbers.shape[0]} numbers for {handles.shape[0]} connections")
        for i in range(handles.shape[0]):
            self.consume(handles[i], numbers[i])

    def close_many(self, conns, *, abort=False):
        """`Connection.close` for many connections, or with `abort` their `abort`. Those that are gone do not matter."""
        cdef const uint64_t[:] handles = _aligned(conns)
        cdef Py_ssize_t i
        self._open()
        for i in range(handles.shape[0]):
            if abort:
                self.abort(handles[i])
            else:
                self.close_connection(handles[i])

    def set_users(self, conns, values):
        """Give each connection a number of the application's own (int64, 0 at first), which its events carry."""
        cdef const uint64_t[:] handles = _aligned(conns)
        cdef const int64_t[:] numbers = np.require(values, np.int64, "CA")
        cdef uint64_t* word
        cdef Py_ssize_t i
        self._open()
        if numbers.shape[0] != handles.shape[0]:
            raise ValueError(f"values: {numbers.shape[0]} numbers for {handles.shape[0]} connections")
        for i in range(handles.shape[0]):
            word = self.user(handles[i])
            if word != NULL:
                word[0] = <uint64_t>numbers[i]

    @property
    def n_connections(self):
        """Connections in any state, TIME-WAIT included."""
        return 0 if self.closed else slab_in_use(self.slab)

    # -- UDP, ICMP, ARP --------------------------------------------------------------------------------------

    def udp_bind(self, port):
        """Deliver datagrams for `port` to `udp_payload`; 0: for every port."""
        self._open()
        udp_bind(self.net, _port(port, "port", 0))

    def udp_unbind(self, port):
        """Datagrams for `port` are answered with "port unreachable" again."""
        self._open()
        udp_unbind(self.net, _port(port, "port", 0))

    def udp_send(self, data, address, port, source_port, *, source=None, ttl=0, tos=0, dont_fragment=False):
        """Send one datagram (up to 65507 bytes). True when it is on its way, False when a queue or the pool is
        full: try again after `run`."""
        cdef Py_buffer view
        cdef int verdict
        cdef Flow flow
        self._open()
        self._flow(&flow, address, source, ttl, tos)
        flow.df = bool(dont_fragment)
        sport, dport = _port(source_port, "source_port", 1), _port(port, "port", 1)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        if view.len > 65507:
            PyBuffer_Release(&view)
            raise ValueError(f"data: {len(data)} bytes do not fit into a datagram; send at most 65507")
        verdict = udp_send(self.net, &flow, sport, dport, <const uint8_t*>view.buf, <uint32_t>view.len)
        PyBuffer_Release(&view)
        return self._sent(verdict, flow.mtu)

    def ping(self, address, ident, seq, data=b"", *, source=None, ttl=0):
        """Send an ICMP echo request; `icmp_reply` follows. True when it is on its way, False when a queue is full."""
        cdef Py_buffer view
        cdef int verdict
        cdef Flow flow
        self._open()
        self._flow(&flow, address, source, ttl, 0)
        flow.df = 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        verdict = net_ping(self.net, &flow, ident & 0xFFFF, seq & 0xFFFF, <const uint8_t*>view.buf, <uint32_t>view.len)
        PyBuffer_Release(&view)
        return self._sent(verdict, flow.mtu)

    def source(self, address):
        """The address of ours from which packets to `address` leave (an `ipaddress` object)."""
        cdef Flow flow
        self._open()
        self._flow(&flow, address, None, 0, 0)
        return addr_object(&flow.src)

    def solicit_routers(self):
        """Ask the routers of IPv6 to advertise; `router_advertisement` follows. True when it is on its way, False when a queue
        is full. Ethernet only."""
        self._open()
        if self.net.medium != MEDIUM_ETHERNET:
            raise ConfigError("solicit_routers: bare IP has no routers to ask; use medium='ethernet'")
        return self._sent(nd_solicit_routers(self.net), self.net.mtu)

    def arp_request(self, address):
        """Ask for the link-layer address of a neighbour; `arp_reply` follows."""
        cdef Addr a
        self._open()
        addr_parse(address, &a, "address")
        return self._sent(net_arp_request(self.net, &a), 0)

    def join(self, group):
        """Receive datagrams sent to a multicast group."""
        cdef Addr a
        self._open()
        addr_parse(group, &a, "group")
        if net_join(self.net, &a) != ok:
            raise ConfigError(f"group: cannot join {group}; it must be a multicast address, and there is room for 64")

    def leave(self, group):
        """Leave a multicast group."""
        cdef Addr a
        self._open()
        addr_parse(group, &a, "group")
        net_leave(self.net, &a)

    cdef int _flow(self, Flow* flow, object address, object source, object ttl, object tos) except -1:
        memset(flow, 0, sizeof(Flow))
        addr_parse(address, &flow.dst, "address")
        if source is not None:
            addr_parse(source, &flow.src, "source")
        flow.ttl = ttl
        flow.tos = tos
        if net_route(self.net, flow) != ok:
            raise ConfigError(f"address: no route to {address}; add an address in its network, a route or a gateway")
        return 0

    cdef object _sent(self, int verdict, int mtu):
        if verdict == ok:
            return True
        count(self.counters, verdict)
        if verdict == ip_too_big:
            raise ConfigError(f"data: larger than the path MTU of {mtu} bytes and must not be fragmented")
        if verdict == ip_no_route:
            raise ConfigError("address: no route; add an address in its network, a route or a gateway")
        return False

    # -- numbers -------------------------------------------------------------------------------------------

    def stats(self):
        """All counters (`iip.stats.Stats`, a dict)."""
        if self.counters == NULL:
            self._open()
        return Stats({name: self.counters[<int>Verdict[name]] for name in NAMES})

    @property
    def addresses(self):
        """Our addresses, as given in the settings."""
        return self.config.addresses

    @property
    def mac(self):
        """Our link-layer address (bytes of length 6)."""
        if self.net == NULL:
            self._open()
        return bytes(self.net.mac[:6])


cdef uint16_t _port(object value, str name, int low) except? 0xFFFF:
    if not isinstance(value, int) or not low <= value <= 65535:
        raise ConfigError(f"{name}={value!r}: a port is a number from {low} to 65535")
    return value


def _open_error(error, address, port, source, source_port):
    if error == OPEN_NO_ROUTE:
        return ConfigError(f"address: no route to {address}; add an address in its network, a route or a gateway"
                           + (f", or check source={source}" if source else ""))
    if error == OPEN_IN_USE:
        return ConfigError(f"source_port={source_port}: the connection to {address} port {port} exists already; "
                           "choose another source_port or none")
    if error == OPEN_NO_PORT:
        return Exhausted(f"no local port is free towards {address} port {port}; widen Config.ports")
    return Exhausted("no room for another connection; raise Config.max_connections")
