"""The neighbour table: which link-layer address an on-link IP address has (RFC 826, RFC 4861 §7.3)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from iip.net.state cimport Net
from iip.net.types cimport Addr

cdef enum:
    # what a message says about a neighbour
    LEARN_REACHABLE = 1           # it answered us; otherwise we only heard of it
    LEARN_OVERRIDE = 2            # replaces another address that is cached
    LEARN_CREATE = 4              # also if we have no entry: it wants to talk to us

cdef uint32_t neigh_find(Net* net, const Addr* a) noexcept nogil
cdef uint32_t neigh_get(Net* net, const Addr* a, uint8_t version, const Addr* src) noexcept nogil
cdef uint32_t neigh_learn(Net* net, const Addr* a, uint8_t version, const uint8_t* mac, int what) noexcept nogil
cdef int neigh_output(Net* net, uint32_t n, uint32_t i, uint32_t mtu) noexcept nogil
cdef int neigh_ask(Net* net, uint32_t n) noexcept nogil
cdef void neigh_timers(Net* net) noexcept nogil
cdef void neigh_drop_all(Net* net) noexcept nogil
cdef void neigh_ask_again(Net* net) noexcept nogil
cdef void neigh_rebase(Net* net, int64_t now) noexcept nogil
