"""The connection object of Python applications: a handle that is checked at every use."""
import mmap
import os
from enum import IntEnum

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t
from iip.address cimport addr_object
from iip.memory.pool cimport pkt_free, pool_views_low
from iip.tcp.conn cimport mark_dirty
from iip.tcp.tcb cimport *
from iip.tcp.info cimport tcp_info
from iip.tcp.user cimport (
    user_abort, user_close, user_consume, user_keepalive, user_send, user_send_packet, user_send_room,
    user_shutdown, user_starved)

from iip.errors import ConnectionGone
from iip.info import TcpInfo


class State(IntEnum):
    """Connection states (RFC 9293 §3.3.2)."""

    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RCVD = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10


class Reason(IntEnum):
    """Why a connection ended."""

    NORMAL = 0        # both sides finished
    RESET = 1         # the peer sent RST
    REFUSED = 2       # RST in answer to our SYN
    TIMEOUT = 3       # retransmissions, probes or keepalives without an answer
    ABORTED = 4       # our application aborted
    UNREACHABLE = 5   # ICMP says so, or there is no route
    REJECTED = 6      # our application did not accept
    NO_MEMORY = 7


cdef class Connection:
    """A TCP connection. Made by the engine; `context` is the application's, for whatever it likes.

    After `tcp_closed` every call raises `ConnectionGone`, except `close` and `abort`, which then do nothing.
    """

    def __init__(self):
        raise TypeError("connections come from Engine.tcp_connect and from callbacks")

    cdef Tcb* tcb(self) except NULL:
        cdef Tcb* t = self.engine.lookup(self.handle) if not self.engine.closed else NULL
        if t == NULL:
            raise ConnectionGone("the connection is closed; tcp_closed told the application")
        return t

    cdef void release(self):
        """The engine lets go of the object."""
        Py_DECREF(self)

    def send(self, data, *, reference=None):
        """Queue `data` (any contiguous buffer). Returns how many bytes were taken, from 0 to all: the send
        buffer bounds it, and `tcp_acked` says when there is room again.

        A connection that ended in this pass takes nothing: `tcp_closed` is about to tell.

        Small data is copied. Longer than `Config.copy_threshold`, immutable `bytes` are referenced until the
        peer has acknowledged them; `reference=True` does that with any buffer, which must then not
        change; False always copies. So does everything while `Config.max_pinned` bytes are referenced. Raises ConnectionGone, and BrokenPipeError after `shutdown`.
        """
        cdef Py_buffer view
        cdef Tcb* t = self.tcb()
        cdef int64_t taken
        if reference is None:
            reference = type(data) is bytes and len(data) > self.engine.tcp.conf.copy_threshold
        if reference and len(data) and self.engine.pool.c.pinned < self.engine.tcp.conf.max_pinned:
            return self._send_reference(data)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        taken = user_send(self.engine.tcp, t, <const uint8_t*>view.buf, <uint32_t>min(view.len, 0x7FFFFFFF))
        PyBuffer_Release(&view)
        return self._taken(t, taken)

    cdef object _taken(self, Tcb* t, int64_t taken):
        if taken >= 0:
            return taken
        if t.flags & TF_FIN_WANTED:
            raise BrokenPipeError("send after shutdown or close")
        return 0                  # over, and tcp_closed not delivered yet

    def send_file(self, file, offset=0, n=None):
        """Queue `n` bytes (None: all) of `file` from `offset` on, without copying them: the file is mapped. Returns how many
        were taken, like `send`; call again with a larger offset for the rest.

        file: an object with `fileno()`, or a descriptor; it may be closed afterwards. It must not change, and above all not become
        shorter, until its bytes are acknowledged: the process would die of SIGBUS. Raises as `send` does.
        """
        cdef Tcb* t = self.tcb()
        if offset < 0 or (n is not None and n < 0):
            raise ValueError("send_file: offset and n must not be negative")
        if t.flags & TF_FIN_WANTED:
            raise BrokenPipeError("send after shutdown or close")
        fd = file if isinstance(file, int) else file.fileno()
        there = max(os.fstat(fd).st_size - offset, 0)
        take = min(there if n is None else min(n, there), user_send_room(t))
        if take == 0:
            return 0
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(fd, offset - start + take, access=mmap.ACCESS_READ, offset=start)
        return self.send(memoryview(mapped)[offset - start:], reference=True)

    def _send_reference(self, data):
        cdef Tcb* t = self.tcb()
        cdef int64_t taken
        cdef uint32_t owner
        if t.flags & TF_FIN_WANTED:
            raise BrokenPipeError("send after shutdown or close")
        room = min(user_send_room(t), self.engine.tcp.conf.max_pinned - self.engine.pool.c.pinned)
        if room == 0:
            return 0
        data = memoryview(data).cast("B")[:room]
        lent = None if pool_views_low(&self.engine.pool.c, 2) else self.engine.pool.lend(data)
        if lent is None:
            user_starved(self.engine.tcp, t)
            return 0
        owner = lent
        taken = user_send_packet(self.engine.tcp, t, owner, 0, self.engine.pool.c.packets[owner].len)
        pkt_free(&self.engine.pool.c, owner)
        self.engine.pool.drain_released()
        return self._taken(t, taken)

    def consume(self, n):
        """`n` received bytes are dealt with: the window opens by as much."""
        if n < 0:
            raise ValueError("consume: n must not be negative")
        user_consume(self.engine.tcp, self.tcb(), n)

    def shutdown(self):
        """No more to send: FIN follows what is queued. Receiving goes on."""
        user_shutdown(self.engine.tcp, self.tcb())

    def close(self):
        """Like `shutdown`, and receive no more: payload that still comes is answered with RST."""
        cdef Tcb* t = self.engine.lookup(self.handle) if not self.engine.closed else NULL
        if t != NULL:
            user_close(self.engine.tcp, t)

    def abort(self):
        """End at once: RST to the peer, everything queued is dropped."""
        cdef Tcb* t = self.engine.lookup(self.handle) if not self.engine.closed else NULL
        if t != NULL:
            user_abort(self.engine.tcp, t)

    @property
    def closed(self):
        """True once the connection is over."""
        return self.engine.closed or self.engine.lookup(self.handle) == NULL

    @property
    def state(self):
        """`iip.State`; CLOSED when the connection is gone."""
        cdef Tcb* t = self.engine.lookup(self.handle) if not self.engine.closed else NULL
        return State.CLOSED if t == NULL else State(t.state)

    @property
    def send_room(self):
        """Bytes that `send` takes now."""
        return user_send_room(self.tcb())

    @property
    def unacknowledged(self):
        """Bytes queued or sent that the peer has not acknowledged."""
        cdef Tcb* t = self.tcb()
        return t.unsent + (t.snd_nxt - t.snd_una)

    @property
    def mss(self):
        """Payload bytes of a full segment."""
        return self.tcb().mss

    @property
    def nodelay(self):
        """True: short segments do not wait for acknowledgements (Nagle's algorithm is off)."""
        return bool(self.tcb().flags & TF_NODELAY)

    @nodelay.setter
    def nodelay(self, on):
        cdef Tcb* t = self.tcb()
        t.flags = t.flags | TF_NODELAY if on else t.flags & ~<uint32_t>TF_NODELAY
        mark_dirty(self.engine.tcp, t)

    @property
    def cork(self):
        """True: short segments wait until the application uncorks."""
        return bool(self.tcb().flags & TF_CORK)

    @cork.setter
    def cork(self, on):
        cdef Tcb* t = self.tcb()
        t.flags = t.flags | TF_CORK if on else t.flags & ~<uint32_t>TF_CORK
        mark_dirty(self.engine.tcp, t)

    @property
    def keepalive(self):
        """True: probe the peer when the connection was idle for `Config.keepalive` seconds."""
        return bool(self.tcb().flags & TF_KEEPALIVE)

    @keepalive.setter
    def keepalive(self, on):
        user_keepalive(self.engine.tcp, self.tcb(), bool(on))

    @property
    def send_buffer(self):
        """Limit of what is queued and unacknowledged, bytes."""
        return self.tcb().snd_buf

    @send_buffer.setter
    def send_buffer(self, n):
        self.tcb().snd_buf = max(1, min(n, 1 << 30))

    @property
    def receive_buffer(self):
        """Limit of what was delivered and not consumed plus the window offered, bytes. What was offered is not
        taken back."""
        return self.tcb().rcv_buf

    @receive_buffer.setter
    def receive_buffer(self, n):
        self.tcb().rcv_buf = max(1, min(n, <int64_t>65535 << self.tcb().rcv_wscale))

    def info(self):
        """`iip.TcpInfo`: the state in the names and units of Linux's tcp_info."""
        return TcpInfo(**tcp_info(self.engine.tcp, self.tcb()))

    @property
    def local(self):
        """(address, port) of our side; the address an `ipaddress` object."""
        return self._local

    @property
    def remote(self):
        """(address, port) of the peer."""
        return self._remote

    def __repr__(self):
        local, remote = ("{}:{}".format(*end) for end in (self._local, self._remote))
        return f"<iip.Connection {local} {remote} {self.state.name}>"


cdef Connection connection_new(Engine engine, uint64_t handle):
    """The object for a live connection; it is kept at the connection until `tcp_closed`."""
    cdef Connection c = Connection.__new__(Connection)
    cdef Tcb* t = engine.lookup(handle)
    c.engine = engine
    c.handle = handle
    c._local = (addr_object(&t.flow.src), t.lport)
    c._remote = (addr_object(&t.flow.dst), t.rport)
    Py_INCREF(c)
    t.object = <void*>c
    return c
