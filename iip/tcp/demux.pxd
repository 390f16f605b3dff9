"""From a packet to its connection: an open-addressing table under a keyed hash."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from iip.memory.pool cimport NIL
from iip.net.types cimport Addr, addr_eq
from iip.tcp.tcb cimport DemuxEntry, Tcb, Tcp, tcb

cdef extern from *:
    """
    static inline uint64_t iip_mix(uint64_t a, uint64_t b)
    {
        __uint128_t m = (__uint128_t)a * b;
        return (uint64_t)m ^ (uint64_t)(m >> 64);
    }
    """
    uint64_t mix "iip_mix"(uint64_t a, uint64_t b) noexcept nogil


cdef inline uint32_t demux_hash(Tcp* s, const Addr* local, const Addr* remote,
                                uint16_t lport, uint16_t rport) noexcept nogil:
    """Never 0, which marks an empty entry. Without the key nobody can build collisions."""
    cdef uint64_t a = mix(local.lo ^ s.hash_key[0], remote.lo ^ s.hash_key[1])
    cdef uint64_t b = mix(local.hi ^ s.hash_key[2], remote.hi ^ s.hash_key[3])
    cdef uint64_t ports = (<uint64_t>lport << 16) | rport
    cdef uint32_t h = <uint32_t>(mix(a ^ ports ^ s.hash_key[2], b ^ s.hash_key[1]) >> 16)
    return h if h else 1


cdef inline Tcb* demux_lookup(Tcp* s, const Addr* local, const Addr* remote,
                              uint16_t lport, uint16_t rport) noexcept nogil:
    cdef uint32_t h = demux_hash(s, local, remote, lport, rport)
    cdef uint32_t i = h & s.table_mask
    cdef DemuxEntry* e
    cdef Tcb* t
    while True:
        e = &s.table[i]
        if e.hash == 0:
            return NULL
        if e.hash == h:
            t = tcb(s, e.id)
            if (t.rport == rport and t.lport == lport and addr_eq(&t.flow.dst, remote)
                    and addr_eq(&t.flow.src, local)):
                return t
        i = (i + 1) & s.table_mask


cdef void demux_insert(Tcp* s, Tcb* t) noexcept nogil
cdef void demux_remove(Tcp* s, Tcb* t) noexcept nogil
