"""From the engine's receive queue into protocols with one copy: what arrived for a connection in one pass becomes one bytes
object for `data_received`, or goes straight into the buffers of a `BufferedProtocol`."""
from libc.string cimport memcpy
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from iip.connection cimport Connection
from iip.memory.pool cimport NIL, pkt
from iip.tcp.tcb cimport Tcb

cdef enum:
    CHUNK = 1 << 18                    # bytes that one call brings; a packet more at most


ctypedef void (*payload_call)(StreamHandler, Engine, uint64_t, const uint8_t*, uint32_t) noexcept nogil
ctypedef void (*acked_call)(StreamHandler, Engine, void*) noexcept nogil


cdef class Sink:
    """The `context` of a connection that has a transport: what the handler needs to know of it.

    blocked: bytes wait in the transport for room to send, `transport.room` takes them; held: the protocol has paused,
    and what comes nevertheless is for `transport.hold`; over: nobody wants bytes any more.
    """

    def __init__(self, transport):
        self.transport = transport

    def feed(self, bytes data):
        """Hand held bytes to the protocol; what it did not take, because it paused meanwhile."""
        if self.data_received is not None:
            self.data_received(data)
            return b""
        while data and not self.held and not self.over:
            buffer = memoryview(self.get_buffer(len(data))).cast("B")
            n = min(len(buffer), len(data))
            if n == 0:
                raise _no_room()
            buffer[:n] = data[:n]
            data = data[n:]
            self.buffer_updated(n)
        return data


cdef object _no_room():
    return RuntimeError("get_buffer() returned an empty buffer")


cdef class StreamHandler(PythonHandler):
    """Calls an object that has the methods of `iip.Handler`, but for `tcp_payload` and `tcp_acked`: these go to the `Sink`
    of the connection."""

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        (<payload_call><void*>_payload)(self, engine, conn, data, n)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        cdef Tcb* t = engine.lookup(conn)
        if t.object != NULL:
            (<acked_call><void*>_acked)(self, engine, t.object)

    cdef int begin(self, Sink sink) except -1:
        """Room for all the bytes ahead, or as many as a buffered protocol takes."""
        if sink.data_received is not None:
            self.chunk = PyBytes_FromStringAndSize(NULL, self.ahead)
            self.out = <uint8_t*>PyBytes_AS_STRING(self.chunk)
            self.size = self.ahead
        else:
            self.chunk = sink.get_buffer(self.ahead)
            PyObject_GetBuffer(self.chunk, &self.view, PyBUF_WRITABLE)
            if self.view.len == 0:
                PyBuffer_Release(&self.view)
                raise _no_room()
            self.out = <uint8_t*>self.view.buf
            self.size = <uint32_t>min(self.view.len, <Py_ssize_t>self.ahead)
        self.done = 0
        return 0

    cdef int complete(self, Sink sink) except -1:
        """The chunk is full: it is the protocol's."""
        cdef object chunk = self.chunk
        cdef uint32_t n = self.size
        self.chunk = None
        self.size = 0
        self.ahead -= n
        if sink.data_received is not None:
            sink.data_received(chunk)
        else:
            PyBuffer_Release(&self.view)
            sink.buffer_updated(n)
        return 0

    cdef int gather(self, Engine engine, uint64_t handle, Sink sink, const uint8_t* data, uint32_t n) except -1:
        cdef uint32_t take
        while n:
            if sink.held or sink.over:           # since the last chunk: the rest of its packet still comes
                self.ahead = 0
                if not sink.over:
                    sink.transport.hold(PyBytes_FromStringAndSize(<const char*>data, n))
                return 0
            if self.ahead == 0:
                self.ahead = _waiting(engine, engine.lookup(handle))
            if self.size == 0:
                self.begin(sink)
            take = min(n, self.size - self.done)
            memcpy(self.out + self.done, data, take)
            self.done += take
            data += take
            n -= take
            if self.done == self.size:
                self.complete(sink)
        return 0


cdef uint32_t _waiting(Engine engine, Tcb* t) noexcept:
    """Bytes that are delivered with nothing else in between: this packet and those behind it, until they are CHUNK."""
    cdef uint32_t total = pkt(&engine.pool.c, engine.current).total_len, i = t.rx_head
    while i != NIL and total < CHUNK:
        total += pkt(&engine.pool.c, i).total_len
        i = pkt(&engine.pool.c, i).qnext
    return total


cdef void _payload(StreamHandler self, Engine engine, uint64_t handle, const uint8_t* data, uint32_t n) noexcept:
    cdef Tcb* t = engine.lookup(handle)
    context = (<Connection>t.object).context if t.object != NULL else None
    engine.consume(handle, n)
    if not isinstance(context, Sink):
        return
    try:
        self.gather(engine, handle, context, data, n)
    except BaseException as error:
        self.chunk = None
        self.size = self.ahead = 0
        _failed(self, engine, context, error)


cdef void _acked(StreamHandler self, Engine engine, void* conn) noexcept:
    context = (<Connection>conn).context
    if not isinstance(context, Sink) or not (<Sink>context).blocked:
        return
    try:
        (<Sink>context).transport.room()
    except BaseException as error:
        _failed(self, engine, context, error)


cdef void _failed(StreamHandler self, Engine engine, Sink sink, object error) noexcept:
    """A protocol raised. It is told to the loop, and ends the connection; what ends programs comes out of `run`."""
    try:
        sink.transport.protocol_failed(error)
    except BaseException as worse:
        self.failed(engine, worse)
