"""The connection object of Python applications: a handle that is checked at every use."""
import mmap
import os
from enum import IntEnum

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t
from iip.address cimport addr_object
from iip.control cimport congestion_get, congestion_set
from iip.memory.pool cimport pkt_free, pool_views_low
from iip.tcp.tcb cimport *
from iip.tcp.info cimport tcp_info
from iip.tcp.conn cimport mark_dirty
from iip.tcp.options cimport *
from iip.tcp.pacing cimport pacing_limit
from iip.tcp.user cimport (
    user_abort, user_close, user_consume, user_send, user_send_packet, user_send_room,
    user_shutdown, user_starved)

from iip.errors import ConfigError, ConnectionGone
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


@cython.binding(False)            # plain method descriptors, which the interpreter calls faster
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
        change; False always copies. So does everything while `Config.max_pinned` bytes are referenced. Raises
        ConnectionGone, and BrokenPipeError after `shutdown`.
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
        take = min(there if n is None else min(n, there), user_send_room(self.engine.tcp, t))
        if take == 0:
            return 0
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(fd, offset - start + take, access=mmap.ACCESS_READ, offset=start)
        return self.send(memoryview(mapped)[offset - start:], reference=True)

    def _send_reference(self, data):
        cdef Tcb* t = self.tcb()
        cdef uint64_t pinned = self.engine.pool.c.pinned, most = self.engine.tcp.conf.max_pinned
        cdef Py_ssize_t room
        cdef int64_t taken
        cdef uint32_t owner
        if t.flags & TF_FIN_WANTED:
            raise BrokenPipeError("send after shutdown or close")
        room = min(<uint64_t>user_send_room(self.engine.tcp, t), most - min(pinned, most))
        if room == 0:
            return 0
        data = memoryview(data).cast("B")
        if room < len(data):
            t.modes |= MD_SHORT | (MD_HELD if t.lowat else 0)
            data = data[:room]
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
        return user_send_room(self.engine.tcp, self.tcb())

    @property
    def unacknowledged(self):
        """Bytes queued or sent that the peer has not acknowledged."""
        cdef Tcb* t = self.tcb()
        return t.unsent + (t.snd_nxt - t.snd_una)

    @property
    def mss(self):
        """Payload bytes of a full segment."""
        return self.tcb().mss

    cdef int _set(self, int option, object value, str name, object unit) except -1:
        """Set an option; a value that cannot be raises ConfigError with the range."""
        cdef int64_t low, high
        cdef Tcb* t = self.tcb()
        options_range(option, &low, &high)
        if not low <= value <= high:
            scale = 1000000000 if unit == "seconds" else 1
            raise ConfigError(f"{name}: must be from {max(low, 0) / scale:g} to {high / scale:g} {unit}".rstrip())
        options_set(self.engine.tcp, t, option, value)
        return 0

    cdef int _set_time(self, int option, object seconds, str name) except -1:
        return self._set(option, round(seconds * 10 ** 9), name, "seconds")

    cdef object _time(self, int option):
        return options_get(self.engine.tcp, self.tcb(), option) / 1e9

    cdef int64_t _get(self, int option) except? -1:
        return options_get(self.engine.tcp, self.tcb(), option)

    @property
    def nodelay(self):
        """True: short segments do not wait for acknowledgements (Nagle's algorithm is off)."""
        return bool(self._get(CO_NODELAY))

    @nodelay.setter
    def nodelay(self, on):
        self._set(CO_NODELAY, bool(on), "nodelay", "")

    @property
    def cork(self):
        """True: short segments wait until the application uncorks, or 200 ms."""
        return bool(self._get(CO_CORK))

    @cork.setter
    def cork(self, on):
        self._set(CO_CORK, bool(on), "cork", "")

    @property
    def quickack(self):
        """True: ACKs leave at once, for a while. False: they wait for an answer to travel with. The engine changes
        it as it sees whether the application answers."""
        return bool(self._get(CO_QUICKACK))

    @quickack.setter
    def quickack(self, on):
        self._set(CO_QUICKACK, bool(on), "quickack", "")

    @property
    def keepalive(self):
        """True: probe the peer when the connection was idle for `keepalive_idle` seconds."""
        return bool(self._get(CO_KEEPALIVE))

    @keepalive.setter
    def keepalive(self, on):
        self._set(CO_KEEPALIVE, bool(on), "keepalive", "")

    @property
    def keepalive_idle(self):
        """Seconds without a segment before the first probe."""
        return self._time(CO_KEEPALIVE_IDLE)

    @keepalive_idle.setter
    def keepalive_idle(self, seconds):
        self._set_time(CO_KEEPALIVE_IDLE, seconds, "keepalive_idle")

    @property
    def keepalive_interval(self):
        """Seconds between probes."""
        return self._time(CO_KEEPALIVE_INTERVAL)

    @keepalive_interval.setter
    def keepalive_interval(self, seconds):
        self._set_time(CO_KEEPALIVE_INTERVAL, seconds, "keepalive_interval")

    @property
    def keepalive_probes(self):
        """Probes without an answer before the connection fails."""
        return self._get(CO_KEEPALIVE_PROBES)

    @keepalive_probes.setter
    def keepalive_probes(self, n):
        self._set(CO_KEEPALIVE_PROBES, n, "keepalive_probes", "probes")

    @property
    def user_timeout(self):
        """Seconds that data may stay unacknowledged; 0: until the retransmissions are used up."""
        return self._time(CO_USER_TIMEOUT)

    @user_timeout.setter
    def user_timeout(self, seconds):
        self._set_time(CO_USER_TIMEOUT, seconds, "user_timeout")

    @property
    def linger(self):
        """Seconds that the rest may take to arrive after `close`; then the connection is aborted. 0: `close` aborts at
        once. None: no limit."""
        return None if self._get(CO_LINGER) < 0 else self._time(CO_LINGER)

    @linger.setter
    def linger(self, seconds):
        self._set_time(CO_LINGER, -1e-9 if seconds is None else max(seconds, -1), "linger")

    @property
    def unsent_low(self):
        """`tcp_acked` comes, and `send` takes something, only while fewer bytes are unsent; 0: no such limit."""
        return self._get(CO_UNSENT_LOW)

    @unsent_low.setter
    def unsent_low(self, n):
        self._set(CO_UNSENT_LOW, n, "unsent_low", "bytes")

    @property
    def unsent(self):
        """Bytes queued that were not sent yet."""
        return self.tcb().unsent

    @property
    def max_seg(self):
        """Upper bound of the MSS; set before the connection opens, also of the one we ask for. 0: none."""
        return self._get(CO_MAX_SEG)

    @max_seg.setter
    def max_seg(self, n):
        self._set(CO_MAX_SEG, n, "max_seg", "bytes")

    @property
    def traffic_class(self):
        """The traffic class of IPv6, the TOS of IPv4. The two bits of ECN stay as they are."""
        return self._get(CO_TRAFFIC_CLASS)

    @traffic_class.setter
    def traffic_class(self, n):
        self._set(CO_TRAFFIC_CLASS, n, "traffic_class", "")

    @property
    def ttl(self):
        """Hop limit or TTL."""
        return self._get(CO_TTL)

    @ttl.setter
    def ttl(self, n):
        self._set(CO_TTL, n, "ttl", "hops")

    @property
    def paused(self):
        """True between `pause` and `resume`."""
        return bool(self._get(CO_PAUSED))

    def pause(self):
        """No payload until `resume`: the window closes. The peer's FIN waits, too; a connection that is over delivers what
        is left."""
        self._set(CO_PAUSED, 1, "paused", "")

    def resume(self):
        """Payload again, in the next run what came meanwhile."""
        self._set(CO_PAUSED, 0, "paused", "")

    @property
    def send_buffer(self):
        """Limit of what is queued and unacknowledged, bytes. Once set it does not grow by itself."""
        return self._get(CO_SEND_BUFFER)

    @send_buffer.setter
    def send_buffer(self, n):
        self._set(CO_SEND_BUFFER, n, "send_buffer", "bytes")

    @property
    def receive_buffer(self):
        """Limit of what was delivered and not consumed plus the window offered, bytes. Once set it does not grow by
        itself; what was offered is not taken back."""
        return self._get(CO_RECEIVE_BUFFER)

    @receive_buffer.setter
    def receive_buffer(self, n):
        self._set(CO_RECEIVE_BUFFER, n, "receive_buffer", "bytes")

    @property
    def congestion(self):
        """Congestion control: the name of an algorithm, or an `iip.CongestionControl`. Another one goes on with the window
        as it is. See docs/congestion.md."""
        return congestion_get(self.tcb())

    @congestion.setter
    def congestion(self, algorithm):
        congestion_set(self.engine, self.tcb(), algorithm)

    @property
    def pacing_rate(self):
        """Bytes per second at which segments leave now; 0: no pacing."""
        cdef Tcb* t = self.tcb()
        return t.pacing_rate if t.cc_mode & CC_PACED else 0

    @property
    def max_pacing_rate(self):
        """Bytes per second that are never exceeded, 0: no limit. A limit switches pacing on."""
        return self.tcb().max_pacing_rate

    @max_pacing_rate.setter
    def max_pacing_rate(self, rate):
        if rate < 0:
            raise ValueError(f"max_pacing_rate={rate!r}: must be bytes per second, or 0 for no limit")
        pacing_limit(self.engine.tcp, self.tcb(), rate)
        mark_dirty(self.engine.tcp, self.tcb())

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
