"""The handler of hosts that measure."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.engine cimport Engine, NativeHandler
from iip.sim.network cimport Network

cdef enum:
    PORT = 5000                   # flow i goes to port 5000 + i
    MAX_FLOWS = 60000


cdef struct Flow:
    uint64_t limit                # bytes to send
    uint64_t sent                 # bytes given to TCP
    uint64_t acked
    uint64_t received             # bytes the other application got
    int64_t connected             # times since the beginning, ns; -1: not yet
    int64_t done                  # all of it received and the end, too
    uint32_t owner                # what is sent, lent to the source's pool
    bint closed


cdef class Traffic(NativeHandler):
    cdef Network network
    cdef list engines             # by flow: the source's
    cdef Flow* flows
    cdef readonly uint32_t n_flows
    cdef uint32_t room
    cdef void fill(self, Engine engine, uint64_t conn, Flow* flow) noexcept nogil
    cdef Flow* flow_of(self, Engine engine, uint64_t conn) noexcept nogil
