"""Handlers and connections of Python programs in another thread than the engine: the adapter that calls the handler, the
connection object and the received bytes, with the same interface as in the engine's thread."""
from collections import deque

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.address cimport addr_object
from iip.engine cimport Datagram as CDatagram, Engine
from iip.handler cimport PythonHandler, bound
from iip.memory.pool cimport NIL, PacketPool, pkt_unhold
from iip.payload cimport Payload
from iip.runtime.channel cimport ASK_RELEASE
from iip.runtime.remote cimport FAR_SHUT, Far, Remote
from iip.tcp.options cimport (
    CO_CORK, CO_KEEPALIVE, CO_KEEPALIVE_IDLE, CO_KEEPALIVE_INTERVAL, CO_LINGER, CO_NODELAY, CO_PAUSED, CO_QUICKACK,
    CO_RECEIVE_BUFFER, CO_SEND_BUFFER, CO_TTL, CO_USER_TIMEOUT)

from iip.connection import Reason
from iip.errors import ConfigError, ConnectionGone
from iip.events import Datagram

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)

# name: number, and how many of its units one of Python's is; the engine's thread alone knows their values
_OPTIONS = {
    "nodelay": (CO_NODELAY, 1), "cork": (CO_CORK, 1), "quickack": (CO_QUICKACK, 1), "keepalive": (CO_KEEPALIVE, 1),
    "keepalive_idle": (CO_KEEPALIVE_IDLE, 10 ** 9), "keepalive_interval": (CO_KEEPALIVE_INTERVAL, 10 ** 9),
    "user_timeout": (CO_USER_TIMEOUT, 10 ** 9), "linger": (CO_LINGER, 10 ** 9), "ttl": (CO_TTL, 1),
    "send_buffer": (CO_SEND_BUFFER, 1), "receive_buffer": (CO_RECEIVE_BUFFER, 1)}

ctypedef void (*event_call)(RemoteHandler, Engine, uint64_t) noexcept nogil
ctypedef void (*payload_call)(RemoteHandler, Engine, uint64_t, const uint8_t*, uint32_t) noexcept nogil
ctypedef void (*closed_call)(RemoteHandler, Engine, uint64_t, int) noexcept nogil
ctypedef void (*udp_call)(RemoteHandler, Engine, const CDatagram*) noexcept nogil


@cython.no_gc
cdef class Returned:
    """Packets of received bytes that were kept and are not any more, for the application's thread to give back."""

    def __cinit__(self, PacketPool pool):
        self.packets = deque()
        self.pool = pool

    cdef void give(self, uint32_t packet):
        if self.over:
            pkt_unhold(&self.pool.c, packet)
        else:
            self.packets.append(packet)

    def end(self):
        """Both threads have ended."""
        self.over = True
        while self.packets:
            pkt_unhold(&self.pool.c, self.packets.popleft())


@cython.no_gc
cdef class RemotePayload(Payload):
    """Received bytes whose packet belongs to another thread: dropped, it is noted, and given back in the next turn."""
    cdef Returned returned
    cdef uint32_t lent

    def __dealloc__(self):
        if self.lent != NIL and self.returned is not None:
            self.returned.give(self.lent)


cdef class RemoteConnection:
    """A connection whose engine runs in another thread. As `iip.Connection`, but for what only the engine knows: options are
    set, not read, and there is neither `state` nor `info`. What `send` takes was copied by this thread."""
    cdef readonly Remote engine
    cdef readonly uint64_t handle
    cdef public object context
    cdef readonly object local
    cdef readonly object remote

    def __init__(self):
        raise TypeError("connections come from tcp_connect and from callbacks")

    cdef Far* known(self) except NULL:
        cdef Far* f = self.engine.find(self.handle)
        if f == NULL:
            raise ConnectionGone("the connection is closed; tcp_closed told the application")
        return f

    def send(self, data, *, reference=None):
        """Queue `data`; how many bytes were taken. `reference` makes no difference."""
        cdef Py_buffer view
        cdef int64_t taken
        if self.known().flags & FAR_SHUT:
            raise BrokenPipeError("send after shutdown or close")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        taken = self.engine.send(self.handle, <const uint8_t*>view.buf, <uint32_t>min(view.len, 0x7FFFFFFF))
        PyBuffer_Release(&view)
        self.engine.flush()
        return taken

    def consume(self, n):
        if n < 0:
            raise ValueError("consume: n must not be negative")
        self.known()
        self.engine.consume(self.handle, n)
        self.engine.flush()

    def shutdown(self):
        self.known()
        self.engine.shutdown(self.handle)
        self.engine.flush()

    def close(self):
        self.engine.close_connection(self.handle)
        self.engine.flush()

    def abort(self):
        self.engine.abort(self.handle)
        self.engine.flush()

    def pause(self):
        """No payload until `resume`, but for what is on its way from the other thread."""
        self.known()
        self.engine.set_option(self.handle, CO_PAUSED, 1)
        self.engine.flush()

    def resume(self):
        self.known()
        self.engine.set_option(self.handle, CO_PAUSED, 0)
        self.engine.flush()

    def set(self, **options):
        """Set options by name, in the units of `iip.Connection`: nodelay, cork, quickack, keepalive, keepalive_idle, ..."""
        self.known()
        for name, value in options.items():
            if name not in _OPTIONS:
                raise ConfigError(f"{name}: cannot be set from another thread; those that can are {', '.join(_OPTIONS)}")
            number, scale = _OPTIONS[name]
            self.engine.set_option(self.handle, number, -1 if value is None else round(value * scale))
        self.engine.flush()

    def __setattr__(self, name, value):
        if name == "context":
            self.context = value
        else:
            self.set(**{name: value})

    @property
    def closed(self):
        return self.engine.find(self.handle) == NULL

    @property
    def send_room(self):
        self.known()
        return self.engine.send_room(self.handle)

    @property
    def unacknowledged(self):
        return self.known().queued

    @property
    def mss(self):
        return self.known().mss

    def __repr__(self):
        local, remote = ("{}:{}".format(*end) for end in (self.local, self.remote))
        return f"<iip connection {local} {remote} of another thread>"


cdef object far_connection(Engine engine, uint64_t conn, const Addr* local, uint16_t local_port, const Addr* remote,
                           uint16_t remote_port):
    """The object of a connection, made when it is first needed; it is kept until `tcp_closed`."""
    cdef RemoteConnection c = RemoteConnection.__new__(RemoteConnection)
    c.engine = engine
    c.handle = conn
    c.local = (addr_object(local), local_port)
    c.remote = (addr_object(remote), remote_port)
    Py_INCREF(c)
    c.engine.find(conn).object = <void*>c
    return c


cdef class RemoteHandler(PythonHandler):
    """Calls a Python object's methods. An exception ends the application's thread."""

    def __cinit__(self, user, engine):
        if bound(user, "tcp_events") is not None:
            raise ConfigError("handler: tcp_events works in the engine's own thread only (model='unified'); "
                              "use single callbacks here")
        self.returned = Returned(engine.pool)

    cdef object conn(self, Engine engine, uint64_t handle):
        cdef Remote remote = engine
        cdef Far* f = remote.find(handle)
        if f.object == NULL:
            far_connection(engine, handle, &remote.at.local, remote.at.local_port, &remote.at.remote, remote.at.remote_port)
        return <object>f.object

    cdef void deliver(self, Engine engine) noexcept nogil:
        with gil:
            engine.deliver()
            self.collect(engine)

    cdef void collect(self, Engine engine) noexcept:
        """Give back the packets of payloads that were dropped."""
        while self.returned.packets:
            (<Remote>engine).ask(ASK_RELEASE, 0, self.returned.packets.popleft(), 0, 0)

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        (<event_call><void*>_accepted)(self, engine, conn)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        (<event_call><void*>_connected)(self, engine, conn)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        if self.on_payload is None:
            engine.consume(conn, n)
        else:
            (<payload_call><void*>_payload)(self, engine, conn, data, n)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        (<closed_call><void*>_closed)(self, engine, conn, reason)

    cdef void udp_payload(self, Engine engine, const CDatagram* d) noexcept nogil:
        if self.on_udp is not None:
            (<udp_call><void*>_udp)(self, engine, d)


# -- with the GIL that `deliver` holds ---------------------------------------------------------------------------

cdef RemotePayload _bytes(RemoteHandler self, const uint8_t* data, uint32_t n):
    cdef RemotePayload payload = RemotePayload.__new__(RemotePayload)
    payload.data = data
    payload.size = n
    payload.lent = NIL
    payload.returned = self.returned
    return payload


cdef void _accepted(RemoteHandler self, Engine engine, uint64_t conn) noexcept:
    try:
        c = self.conn(engine, conn)           # made in any case: the addresses are known only now
        if self.on_accepted is not None:
            self.on_accepted(c)
    except BaseException as error:
        self.failed(engine, error)


cdef void _connected(RemoteHandler self, Engine engine, uint64_t conn) noexcept:
    cdef RemoteConnection c
    cdef Remote remote = engine
    try:
        c = self.conn(engine, conn)
        c.local = (addr_object(&remote.at.local), remote.at.local_port)     # known only now
        if self.on_connected is not None:
            self.on_connected(c)
    except BaseException as error:
        self.failed(engine, error)


cdef void _payload(RemoteHandler self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept:
    cdef RemotePayload payload = _bytes(self, data, n)
    try:
        self.on_payload(self.conn(engine, conn), payload)
    except BaseException as error:
        self.failed(engine, error)
    if Py_REFCNT(payload) > 1:    # somebody kept it
        payload.lent = engine.current
        (<Remote>engine).kept = True


cdef void _closed(RemoteHandler self, Engine engine, uint64_t conn, int reason) noexcept:
    cdef Remote remote = engine
    cdef Far* f = remote.find(conn)
    cdef RemoteConnection c
    try:
        if f.object == NULL:
            return                # a connection of another handler
        c = <RemoteConnection>f.object
        f.object = NULL
        Py_DECREF(c)
        f.flags |= FAR_SHUT
        if self.on_closed is not None:
            self.on_closed(c, Reason(reason))
    except BaseException as error:
        self.failed(engine, error)


cdef void _udp(RemoteHandler self, Engine engine, const CDatagram* d) noexcept:
    cdef RemotePayload payload = _bytes(self, d.data, d.n)
    try:
        datagram = Datagram(payload, addr_object(&d.source), d.source_port, addr_object(&d.destination), d.destination_port,
                            d.ttl)
        try:
            self.on_udp(datagram)
        finally:
            datagram = None
    except BaseException as error:
        self.failed(engine, error)
    if Py_REFCNT(payload) > 1:
        payload.lent = engine.current
        (<Remote>engine).kept = True
