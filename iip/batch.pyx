"""Events in batches: one call into Python for everything that happened in a run."""
from enum import IntEnum

import numpy as np

from cpython.buffer cimport PyBUF_CONTIG, PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy
from cpython.ref cimport Py_DECREF
from iip.handler cimport bound
from iip.memory.pool cimport NIL, pkt, pkt_hold, pkt_unhold
from iip.payload cimport Payload, payload_new
from iip.tcp.tcb cimport Tcb

from iip.errors import ConfigError


class Event(IntEnum):
    """What happened: `kind` of the rows of a batch. The names are those of the callbacks."""

    ACCEPTED = K_ACCEPTED
    CONNECTED = K_CONNECTED
    ACKED = K_ACKED
    PAYLOAD = K_PAYLOAD
    SHUTDOWN = K_SHUTDOWN
    CLOSED = K_CLOSED


EVENT = np.dtype([("conn", "u8"), ("user", "i8"), ("at", "i8"), ("n", "u4"), ("index", "u4"), ("kind", "u1"),
                  ("reason", "u1")], align=True)

_REPLACED = ("tcp_accepted", "tcp_connected", "tcp_payload", "tcp_acked", "tcp_shutdown", "tcp_closed")


def _wanted(kinds):
    """The bits of a handler's `tcp_event_kinds`."""
    bits = 0
    for kind in Event if kinds is None else kinds:
        if kind not in list(Event):
            raise ConfigError(f"handler: tcp_event_kinds has {kind!r}; name members of iip.Event")
        bits |= 1 << kind
    return bits


ctypedef void (*flush_call)(BatchHandler, Engine) noexcept nogil
ctypedef void (*release_call)(void*) noexcept nogil


cdef class Batch:
    """The events of one run, for `tcp_events`. The object and its arrays are used again for the next run: copy what is
    to stay."""

    def __init__(self):
        raise TypeError("batches come from the engine")

    def __cinit__(self):
        cdef Py_buffer view
        table = np.zeros(BATCH_ROWS, EVENT)
        if EVENT.itemsize != sizeof(Row):
            raise SystemError("the dtype of events does not match their struct")
        PyObject_GetBuffer(table.view(np.uint8), &view, PyBUF_CONTIG)
        self.row = <Row*>view.buf
        PyBuffer_Release(&view)   # the array keeps the memory
        table.flags.writeable = False
        self.table = table

    cdef void clear(self) noexcept:
        """Give the packets back and begin anew."""
        cdef uint32_t i
        if self.counts[<int>K_PAYLOAD]:
            for i in range(self.n):
                if self.held[i].root != NIL:
                    pkt_unhold(&self.engine.pool.c, self.held[i].root)
        for i in range(<uint32_t>N_KINDS):
            self.counts[i] = 0
        self.n = 0
        self.engine = None

    def __len__(self):
        return self.n

    @property
    def events(self):
        """All events in order: a read-only structured array of dtype `iip.batch.EVENT`."""
        return self.table[:self.n]

    def rows(self, kind):
        """The events of one `kind` (`iip.Event`), in order."""
        cdef uint32_t k = kind, found, i
        cdef Py_buffer view
        cdef Row* row
        if not 0 < k < <uint32_t>N_KINDS:
            raise ValueError(f"kind={kind!r}: use a member of iip.Event")
        found = self.counts[k]
        if found == self.n or not found:
            return self.table[:found]
        out = np.empty(found, EVENT)
        PyObject_GetBuffer(out, &view, PyBUF_CONTIG)
        row = <Row*>view.buf
        for i in range(self.n):   # a mask would do, but numpy copies structures field by field
            if self.row[i].kind == k:
                memcpy(row, &self.row[i], sizeof(Row))
                row += 1
        PyBuffer_Release(&view)
        return out

    @property
    def payloads(self):
        """The events that brought bytes."""
        return self.rows(<int>K_PAYLOAD)

    @property
    def memory(self):
        """The memory of the packet pool, read-only, uint8: the payload of a row is `memory[row.at:row.at + row.n]`, unless
        `at` is -1. Valid during the call."""
        if self.engine is None:
            raise ValueError("memory: only during tcp_events")
        if self.pool_seen is not self.engine.pool:
            view = np.asarray(self.engine.pool.memory)[:]
            view.flags.writeable = False
            self.memory_view, self.pool_seen = view, self.engine.pool
        return self.memory_view

    def payload(self, index):
        """The bytes that the event with this `index` brought: an `iip.Payload`, which may be kept."""
        cdef int64_t i = index
        cdef Payload payload
        self.check(i)
        payload = payload_new(self.held[i].data, self.row[i].n)
        payload.keep(self.engine.pool, self.held[i].root)
        return payload

    def send(self, rows=None, to=None):
        """Send the payloads of `rows` (by default all) back to where they came from, or to the connections `to` (handles,
        one for each row). Longer ones are not copied. How many bytes each connection took: -1 when it is gone or
        was shut down."""
        cdef const uint32_t[:] indexes = None
        cdef const uint64_t[:] conns = None
        cdef uint32_t i
        cdef Py_ssize_t k, n = self.counts[<int>K_PAYLOAD]
        if rows is not None:
            indexes = rows["index"]
            n = indexes.shape[0]
        elif to is not None:
            indexes = self.payloads["index"]
        if to is not None:
            conns = np.require(to, requirements="A") if isinstance(to, np.ndarray) else to    # columns of packed records
            if conns.shape[0] != n:
                raise ValueError(f"to: {conns.shape[0]} connections for {n} rows")
        out = np.empty(n, np.int64)
        cdef int64_t[::1] taken = out
        if indexes is not None:
            for k in range(n):
                self.check(indexes[k])
                taken[k] = _send(self, indexes[k], conns[k] if conns is not None else self.row[indexes[k]].conn)
            return out
        k = 0
        for i in range(self.n):
            if self.held[i].root != NIL:
                taken[k] = _send(self, i, self.row[i].conn)
                k += 1
        return out

    def consume(self, rows=None):
        """The payloads of `rows` (by default all) are dealt with: their windows open."""
        cdef const uint32_t[:] indexes
        cdef uint32_t i
        cdef Py_ssize_t k
        if rows is None:
            for i in range(self.n):
                if self.held[i].root != NIL:
                    self.engine.consume(self.row[i].conn, self.row[i].n)
            return
        indexes = rows["index"]
        for k in range(indexes.shape[0]):
            self.check(indexes[k])
            self.engine.consume(self.row[indexes[k]].conn, self.row[indexes[k]].n)

    cdef int check(self, int64_t index) except -1:
        if not 0 <= index < self.n or self.held[index].root == NIL:
            raise IndexError(f"event {index} of this batch brought no payload; use the `index` of its own rows of kind PAYLOAD")
        return 0

    def __repr__(self):
        return f"<iip.Batch of {self.n} events>"


cdef int64_t _send(Batch self, uint32_t i, uint64_t conn) noexcept:
    cdef Engine engine = self.engine
    cdef const uint8_t* data = self.held[i].data
    cdef uint32_t n = self.row[i].n, root = self.held[i].root
    if n > engine.tcp.conf.copy_threshold:
        return engine.send_packet(conn, root, <uint32_t>(data - pkt(&engine.pool.c, root).buf), n)
    return engine.send(conn, data, n)


cdef class BatchHandler(PythonHandler):
    """Collects what happens to connections and calls `tcp_events` at the end of the deliver phase. What has to be
    answered (`tcp_accept`) and what is no TCP goes the way of `PythonHandler`."""

    def __cinit__(self, user):
        for name in _REPLACED:
            if bound(user, name) is not None:
                raise ConfigError(f"handler: tcp_events takes the place of {name}; leave one of them out")
        self.on_events = bound(user, "tcp_events")
        self.wanted = _wanted(getattr(user, "tcp_event_kinds", None))
        self.batch = Batch.__new__(Batch)

    cdef void deliver(self, Engine engine) noexcept nogil:
        with gil:
            engine.deliver()
            while self.batch.n:
                _flush(self, engine)
                engine.deliver()  # what the application caused

    cdef Row* append(self, Engine engine, uint64_t conn, int kind, uint32_t n) noexcept nogil:
        cdef Tcb* t
        cdef Row* row
        cdef uint32_t i
        if self.batch.n == <uint32_t>BATCH_ROWS:
            (<flush_call><void*>_flush)(self, engine)
        i = self.batch.n
        t = engine.lookup(conn)
        row = &self.batch.row[i]
        row.conn = conn
        row.user = <int64_t>t.user if t != NULL else 0
        row.at = -1
        row.n = n
        row.index = i
        row.kind = <uint8_t>kind
        row.reason = 0
        self.batch.held[i].root = NIL
        self.batch.counts[kind] = self.batch.counts[kind] + 1
        self.batch.n = i + 1
        return row

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.wanted & 1 << K_ACCEPTED:
            self.append(engine, conn, K_ACCEPTED, 0)

    cdef void tcp_connected(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.wanted & 1 << K_CONNECTED:
            self.append(engine, conn, K_CONNECTED, 0)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        if self.wanted & 1 << K_ACKED:
            self.append(engine, conn, K_ACKED, n)

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Row* row
        cdef Held* held
        if not self.wanted & 1 << K_PAYLOAD:
            engine.consume(conn, n)
            return
        row = self.append(engine, conn, K_PAYLOAD, n)
        held = &self.batch.held[row.index]
        held.data = data
        held.root = pkt_hold(&engine.pool.c, engine.current)
        if held.root < engine.pool.c.n_direct:
            row.at = data - engine.pool.c.arena

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        if self.wanted & 1 << K_SHUTDOWN:
            self.append(engine, conn, K_SHUTDOWN, 0)
        else:
            engine.close_connection(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        cdef Tcb* t = engine.lookup(conn)
        if self.wanted & 1 << K_CLOSED:
            self.append(engine, conn, K_CLOSED, 0).reason = <uint8_t>reason
        if t.object != NULL:
            (<release_call><void*>_release)(t.object)
            t.object = NULL


cdef void _release(void* conn) noexcept:
    Py_DECREF(<object>conn)


cdef void _flush(BatchHandler self, Engine engine) noexcept:
    self.batch.engine = engine
    try:
        self.on_events(self.batch)
    except BaseException as error:
        self.failed(engine, error)
    self.batch.clear()
