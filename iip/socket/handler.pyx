"""The engine's callbacks for sockets: noted without a line of Python, and passed on after the pass. So a signal, whose Python
handler may raise anywhere, never comes between an event and what becomes of it."""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from iip.connection cimport Connection
from iip.engine cimport Engine, SynInfo
from iip.handler cimport PythonHandler, syn_object
from iip.tcp.tcb cimport TF_USED, Tcb

from collections import deque

from iip.connection import Reason

ctypedef bint (*accept_call)(Recorder, Engine, const SynInfo*) noexcept nogil
ctypedef void (*note_call)(Recorder, Engine, uint64_t, void*) noexcept nogil
ctypedef void (*number_call)(Recorder, Engine, uint64_t, uint32_t) noexcept nogil
ctypedef void (*payload_call)(Recorder, Engine, uint64_t, const uint8_t*, uint32_t) noexcept nogil


cdef class Recorder(PythonHandler):
    """Notes what is for an object with the methods of `iip.Handler`, until `dispatch`. SYNs are decided on at once."""

    cdef object queue             # of (method, arguments); method None: payload, (connection, bytes)
    cdef object last              # the socket whose bytes came last
    cdef bint busy                # in dispatch

    def __init__(self, user):
        self.queue = deque()
        self.on_udp, self.on_icmp_reply, self.on_icmp_error = (
            Note(self.queue, method) for method in (user.udp_payload, user.icmp_reply, user.icmp_error))

    def dispatch(self):
        """Pass on what was noted. An event stays noted until that is done, and may come twice if it was interrupted."""
        if self.busy:             # a signal's handler uses a socket: what it has caused comes after this
            return
        self.busy = True
        try:
            while self.queue:
                method, arguments = self.queue[0]
                if method is None:
                    self.arrived(arguments[0], arguments[1])
                else:
                    method(*arguments)
                    self.queue.popleft()
        except Exception:
            self.queue.popleft()
            raise
        finally:
            self.last = None
            self.busy = False

    cdef int arrived(self, Connection conn, bytes data) except -1:
        core = conn.context
        if core is None:
            if not conn.closed:
                conn.consume(len(data))
            self.queue.popleft()
        else:
            core.buffer += data
            self.queue[0] = core.changed, ()
        return 0

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return (<accept_call><void*>_accept)(self, engine, syn)

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        (<note_call><void*>_note)(self, engine, conn, <void*>self.on_accepted)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        (<note_call><void*>_note)(self, engine, conn, <void*>self.on_connected)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        (<payload_call><void*>_payload)(self, engine, conn, data, n)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        (<number_call><void*>_acked)(self, engine, conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        (<note_call><void*>_note)(self, engine, conn, <void*>self.on_shutdown)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        (<number_call><void*>_closed)(self, engine, conn, <uint32_t>reason)


cdef int _append(bytearray buffer, const uint8_t* data, uint32_t n) except -1:
    cdef Py_ssize_t before = PyByteArray_GET_SIZE(buffer)
    PyByteArray_Resize(buffer, before + n)
    memcpy(PyByteArray_AS_STRING(buffer) + before, data, n)
    return 0


def head(bytearray buffer not None, Py_ssize_t n):
    """The first bytes. No view is taken: a signal's handler may run the engine, which appends."""
    return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), min(n, PyByteArray_GET_SIZE(buffer)))


def head_into(bytearray buffer not None, view):
    """The same, as many as fit, into memory of the caller's; how many."""
    cdef Py_buffer out
    cdef Py_ssize_t n
    PyObject_GetBuffer(view, &out, PyBUF_WRITABLE)
    n = min(out.len, PyByteArray_GET_SIZE(buffer))
    memcpy(out.buf, PyByteArray_AS_STRING(buffer), n)
    PyBuffer_Release(&out)
    return n


cdef class Notified:
    """What a driver calls, with the lock held, when it has packets."""

    cdef object worker

    def __init__(self, worker):
        self.worker = worker

    def __call__(self):
        if self.worker.runner:
            self.worker.again = True
        else:
            self.worker.wake()


cdef class Note:
    """A callback that is noted."""
    cdef object queue
    cdef object method

    def __init__(self, queue, method):
        self.queue, self.method = queue, method

    def __call__(self, event):
        self.queue.append((self.method, (event,)))


cdef tuple _REASONS = tuple(Reason)


cdef bint _accept(Recorder self, Engine engine, const SynInfo* syn) noexcept:
    """Interrupted: yes, since `tcp_accepted` looks again."""
    try:
        return bool(self.on_accept(syn_object(syn)))
    except BaseException as error:
        self.failed(engine, error)
        return not isinstance(error, Exception)


cdef void _note(Recorder self, Engine engine, uint64_t handle, void* method) noexcept:
    try:
        self.queue.append((<object>method, (self.conn(engine, handle),)))
    except BaseException as error:
        self.failed(engine, error)


cdef void _payload(Recorder self, Engine engine, uint64_t handle, const uint8_t* data, uint32_t n) noexcept:
    """Into the socket's buffer, unless the socket is still to be made."""
    cdef Connection conn
    try:
        conn = self.conn(engine, handle)
        core = conn.context
        if core is None:
            self.queue.append((None, (conn, PyBytes_FromStringAndSize(<const char*>data, n))))
        else:
            _append(core.buffer, data, n)
            if self.last is not core or not self.queue:
                self.last = core
                self.queue.append((core.changed, ()))
    except BaseException as error:
        self.failed(engine, error)


cdef void _acked(Recorder self, Engine engine, uint64_t handle, uint32_t n) noexcept:
    """Only who waits for room wants to know."""
    cdef Connection conn
    try:
        conn = self.conn(engine, handle)
        if conn.context is not None and conn.context.full:
            self.queue.append((self.on_acked, (conn, n)))
    except BaseException as error:
        self.failed(engine, error)


cdef void _closed(Recorder self, Engine engine, uint64_t handle, uint32_t reason) noexcept:
    cdef Tcb* t = engine.lookup(handle)
    cdef Connection conn
    try:
        conn = self.conn(engine, handle)
        t.object = NULL
        Py_DECREF(conn)
        t.flags &= ~<uint32_t>TF_USED     # the handle ends here
        self.queue.append((self.on_closed, (conn, _REASONS[reason])))
    except BaseException as error:
        self.failed(engine, error)
