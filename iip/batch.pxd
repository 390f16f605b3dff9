"""Events in batches: one call into Python for everything that happened in a run."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from iip.engine cimport Engine
from iip.handler cimport PythonHandler

cdef enum EventKind:
    K_ACCEPTED = 1
    K_CONNECTED
    K_ACKED
    K_PAYLOAD
    K_SHUTDOWN
    K_CLOSED
    N_KINDS

cdef enum:
    BATCH_ROWS = 1024             # more events than this in a run make several batches


cdef struct Row:
    uint64_t conn                 # handle
    int64_t user                  # the connection's word
    int64_t at                    # payload: its place in the pool's memory, -1: elsewhere
    uint32_t n                    # bytes
    uint32_t index                # of the row
    uint8_t kind                  # K_*
    uint8_t reason                # closed: CloseReason


cdef struct Held:
    const uint8_t* data
    uint32_t root                 # the packet that has the bytes, or NIL


cdef class Batch:
    cdef object table             # read-only, what Python sees of `row`
    cdef object memory_view
    cdef object pool_seen         # whose memory that is
    cdef readonly Engine engine   # during the call
    cdef Row* row
    cdef uint32_t n
    cdef uint32_t counts[7]       # by kind
    cdef Held held[1024]
    cdef void clear(self) noexcept
    cdef int check(self, int64_t index) except -1


cdef class BatchHandler(PythonHandler):
    cdef object on_events
    cdef uint32_t wanted          # bit by kind; the others do what they do by default
    cdef Batch batch
    cdef Row* append(self, Engine engine, uint64_t conn, int kind, uint32_t n) noexcept nogil
