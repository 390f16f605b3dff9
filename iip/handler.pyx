"""Handlers written in Python: the base class that applications subclass, and the adapter that calls them."""
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from iip.address cimport addr_object
from iip.connection cimport Connection, connection_new
from iip.engine cimport Datagram as CDatagram, SynInfo
from iip.memory.pool cimport NIL
from iip.net.ndp cimport NE_ROUTER
from iip.net.state cimport NE_ARP_REPLY, NE_CONFLICT, NE_ICMP_ERROR, NE_ICMP_REPLY, NE_UNREACHABLE, NetEvent
from iip.payload cimport Payload, payload_new
from iip.tcp.tcb cimport TF_USED, Tcb

from iip.connection import Reason
from iip.events import ArpReply, Conflict, Datagram, IcmpError, IcmpReply, RouterAdvertisement, Syn

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)


class Handler:
    """Base of handlers: override what you need. Callbacks run inside `Engine.run`, after the protocol state is
    settled; they may call anything, closing the connection they were called for included."""

    def tcp_accept(self, syn):
        """A SYN (`iip.Syn`) for a listening port. Return False to refuse it with RST."""
        return True

    def tcp_accepted(self, conn):
        """A connection we accepted is established."""

    def tcp_connected(self, conn):
        """A connection we opened is established."""

    def tcp_payload(self, conn, data):
        """The next bytes in order (`iip.Payload`). Call `conn.consume(n)` once they are dealt with."""
        conn.consume(len(data))

    def tcp_acked(self, conn, n):
        """The peer acknowledged `n` more bytes: there is room to send. 0: there is memory again for a `send` that came
        short."""

    def tcp_shutdown(self, conn):
        """The peer sent FIN: no more payload comes. By default we close too."""
        conn.close()

    def tcp_closed(self, conn, reason):
        """The connection is over; `reason` is an `iip.Reason`. `conn` cannot be used afterwards."""

    tcp_event_kinds = None        # of `tcp_events`: the `iip.Event`s wanted, None: all; the others do the default

    def tcp_events(self, batch):
        """All that happened to connections in this run (`iip.Batch`), in place of the calls above but `tcp_accept`. Nothing
        is done by default: consume what was received, close what the peer has shut down."""

    def udp_payload(self, datagram):
        """A UDP datagram (`iip.Datagram`) for a bound port."""

    def icmp_reply(self, reply):
        """The answer to a ping (`iip.IcmpReply`)."""

    def icmp_error(self, error):
        """An ICMP error (`iip.IcmpError`) about a packet we sent, or a neighbour that does not answer."""

    def arp_reply(self, reply):
        """The answer to `Engine.arp_request` (`iip.ArpReply`)."""

    def address_conflict(self, conflict):
        """Somebody else uses an address of ours (`iip.Conflict`)."""

    def router_advertisement(self, advertisement):
        """A router of IPv6 says what it knows (`iip.RouterAdvertisement`). The engine does nothing about it."""


# What is called from the deliver phase with the GIL held (see `deliver`), under the types of callbacks
ctypedef bint (*accept_call)(PythonHandler, Engine, const SynInfo*) noexcept nogil
ctypedef void (*event_call)(PythonHandler, Engine, uint64_t, void* method) noexcept nogil
ctypedef void (*payload_call)(PythonHandler, Engine, uint64_t, const uint8_t*, uint32_t) noexcept nogil
ctypedef void (*number_call)(PythonHandler, Engine, uint64_t, uint32_t) noexcept nogil
ctypedef void (*udp_call)(PythonHandler, Engine, const CDatagram*) noexcept nogil
ctypedef void (*net_call)(PythonHandler, Engine, NetEvent*) noexcept nogil


cdef object bound(object user, str name):
    """The bound method, or None when the application left it out or as it is in `Handler`."""
    method = getattr(user, name, None)
    if method is not None and getattr(method, "__func__", None) is getattr(Handler, name):
        return None
    return method


cdef object syn_object(const SynInfo* syn):
    return Syn(addr_object(&syn.local), syn.local_port, addr_object(&syn.remote), syn.remote_port, syn.mss, bool(syn.sack),
               bool(syn.timestamps), bool(syn.window_scale))


cdef class PythonHandler(NativeHandler):
    """Calls a Python object's methods. An exception comes out of `Engine.run` when the pass is over."""

    def __cinit__(self, user, *_):
        self.on_accept = bound(user, "tcp_accept")
        self.on_accepted = bound(user, "tcp_accepted")
        self.on_connected = bound(user, "tcp_connected")
        self.on_payload = bound(user, "tcp_payload")
        self.on_acked = bound(user, "tcp_acked")
        self.on_shutdown = bound(user, "tcp_shutdown")
        self.on_closed = bound(user, "tcp_closed")
        self.on_udp = bound(user, "udp_payload")
        self.on_icmp_reply = bound(user, "icmp_reply")
        self.on_icmp_error = bound(user, "icmp_error")
        self.on_arp_reply = bound(user, "arp_reply")
        self.on_conflict = bound(user, "address_conflict")
        self.on_router = bound(user, "router_advertisement")

    cdef void failed(self, Engine engine, object error):
        if engine.error is None:
            engine.error = error

    cdef object conn(self, Engine engine, uint64_t handle):
        """The object of a connection, made when it is first needed."""
        cdef Tcb* t = engine.lookup(handle)
        if t.object != NULL:
            return <Connection>t.object
        return connection_new(engine, handle)

    cdef void deliver(self, Engine engine) noexcept nogil:
        with gil:                 # once for all callbacks of a run: they are called below as if they needed none
            engine.deliver()

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return self.on_accept is None or (<accept_call><void*>_accept)(self, engine, syn)

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.on_accepted is not None:
            (<event_call><void*>_event)(self, engine, conn, <void*>self.on_accepted)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.on_connected is not None:
            (<event_call><void*>_event)(self, engine, conn, <void*>self.on_connected)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        if self.on_payload is None:
            engine.consume(conn, n)
        else:
            (<payload_call><void*>_payload)(self, engine, conn, data, n)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        if self.on_acked is not None:
            (<number_call><void*>_acked)(self, engine, conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.on_shutdown is None:
            engine.close_connection(conn)
        else:
            (<event_call><void*>_event)(self, engine, conn, <void*>self.on_shutdown)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        (<number_call><void*>_closed)(self, engine, conn, <uint32_t>reason)

    cdef void udp_payload(self, Engine engine, const CDatagram* d) noexcept nogil:
        if self.on_udp is not None:
            (<udp_call><void*>_udp)(self, engine, d)

    cdef void net_event(self, Engine engine, NetEvent* event) noexcept nogil:
        (<net_call><void*>_net_event)(self, engine, event)


# -- the calls into Python, with the GIL that `deliver` holds --------------------------------------------------

cdef bint _accept(PythonHandler self, Engine engine, const SynInfo* syn) noexcept:
    try:
        return bool(self.on_accept(syn_object(syn)))
    except BaseException as error:
        self.failed(engine, error)
        return False


cdef void _event(PythonHandler self, Engine engine, uint64_t conn, void* method) noexcept:
    try:
        (<object>method)(self.conn(engine, conn))
    except BaseException as error:
        self.failed(engine, error)


cdef void _payload(PythonHandler self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept:
    cdef Payload payload = self.spare
    if payload is None:
        payload = payload_new(data, n)
    else:
        self.spare = None
        payload.data = data
        payload.size = n
    try:
        self.on_payload(self.conn(engine, conn), payload)
    except BaseException as error:
        self.failed(engine, error)
    if Py_REFCNT(payload) > 1:    # somebody kept it
        payload.keep(engine.pool, engine.current)
    else:
        self.spare = payload


cdef void _acked(PythonHandler self, Engine engine, uint64_t conn, uint32_t n) noexcept:
    try:
        self.on_acked(self.conn(engine, conn), n)
    except BaseException as error:
        self.failed(engine, error)


cdef void _closed(PythonHandler self, Engine engine, uint64_t handle, uint32_t reason) noexcept:
    cdef Tcb* t = engine.lookup(handle)
    cdef Connection conn
    try:
        conn = self.conn(engine, handle)
        t.object = NULL
        Py_DECREF(conn)
        # the handle ends here: the callback sees a connection that is over
        t.flags &= ~<uint32_t>TF_USED
        if self.on_closed is not None:
            self.on_closed(conn, Reason(reason))
    except BaseException as error:
        self.failed(engine, error)


cdef void _udp(PythonHandler self, Engine engine, const CDatagram* d) noexcept:
    cdef Payload payload
    try:
        if d.data != NULL:
            payload = payload_new(d.data, d.n)
            data = payload
        else:
            payload = None
            data = engine.pool.bytes(engine.current)[-<Py_ssize_t>d.n:]
        datagram = Datagram(data, addr_object(&d.source), d.source_port, addr_object(&d.destination),
                            d.destination_port, d.ttl)
        try:
            self.on_udp(datagram)
        finally:
            data = datagram = None
            if payload is not None and Py_REFCNT(payload) > 1:
                payload.keep(engine.pool, engine.current)
    except BaseException as error:
        self.failed(engine, error)


cdef void _net_event(PythonHandler self, Engine engine, NetEvent* e) noexcept:
    try:
        if e.type == NE_ICMP_REPLY and self.on_icmp_reply is not None:
            raw = engine.pool.bytes(e.pkt)[e.off:e.off + e.len] if e.pkt != NIL else b""
            self.on_icmp_reply(IcmpReply(addr_object(&e.src), e.ident, e.seq, e.ttl, raw))
        elif e.type in (NE_ICMP_ERROR, NE_UNREACHABLE) and self.on_icmp_error is not None:
            reporter = None if e.type == NE_UNREACHABLE else addr_object(&e.reporter)
            self.on_icmp_error(IcmpError(reporter, e.icmp_type, e.icmp_code, e.mtu, addr_object(&e.dst), e.proto,
                                         e.sport, e.dport))
        elif e.type == NE_ARP_REPLY and self.on_arp_reply is not None:
            self.on_arp_reply(ArpReply(addr_object(&e.src), (<bytes>e.mac[:6])))
        elif e.type == NE_CONFLICT and self.on_conflict is not None:
            self.on_conflict(Conflict(addr_object(&e.src), (<bytes>e.mac[:6])))
        elif e.type == NE_ROUTER and self.on_router is not None:
            self.on_router(RouterAdvertisement(addr_object(&e.src), (<bytes>e.mac[:6]),
                                               engine.pool.bytes(e.pkt)[e.off:e.off + e.len]))
    except BaseException as error:
        self.failed(engine, error)
