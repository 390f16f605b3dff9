"""Counts by peer and by port: see tally.pxd.

One open-addressing table under the keyed hash of the demultiplexer, a quarter full at most. A peer is an IPv4
address or an IPv6 /64, which is what a subscriber has; a port is an address that no host has.
"""
from libc.stdint cimport uint64_t
from iip.tcp.demux cimport mix
from iip.tcp.limits cimport TallyEntry
from iip.tcp.tcb cimport *

cdef uint64_t PORT = <uint64_t>0xFFFFFFFFFFFFFFFF


cdef inline uint32_t _home(Tcp* s, uint64_t hi, uint64_t lo) noexcept nogil:
    return <uint32_t>(mix(hi ^ s.hash_key[3], lo ^ s.hash_key[1]) >> 16) & s.tally_mask


cdef inline uint64_t _peer(const Addr* a) noexcept nogil:
    """The low half of a peer's key: all of an IPv4 address, nothing of an IPv6 one."""
    return a.lo if a.hi == 0 and a.lo >> 32 == 0xFFFF else 0


cdef TallyEntry* _entry(Tcp* s, uint64_t hi, uint64_t lo) noexcept nogil:
    """The entry of a key, or the free one where it belongs."""
    cdef uint32_t i = _home(s, hi, lo)
    while s.tally[i].total and (s.tally[i].hi != hi or s.tally[i].lo != lo):
        i = (i + 1) & s.tally_mask
    return &s.tally[i]


cdef bint tally_peer_full(Tcp* s, const Addr* peer) noexcept nogil:
    """The peer has as many connections as one may have."""
    return (s.tally != NULL and s.conf.connections_per_peer
            and _entry(s, peer.hi, _peer(peer)).total >= s.conf.connections_per_peer)


cdef bint tally_half_open_full(Tcp* s, const Addr* peer, uint16_t port) noexcept nogil:
    """The peer, or the port, has as many half-open connections as one may have."""
    cdef TallyEntry* e
    if s.tally == NULL:
        return False
    e = _entry(s, peer.hi, _peer(peer))
    if s.conf.half_open_per_peer and e.total and e.half_open >= s.conf.half_open_per_peer:
        return True
    e = _entry(s, PORT, port)
    return s.conf.half_open_per_port and e.total and e.half_open >= s.conf.half_open_per_port


cdef void _add(Tcp* s, uint64_t hi, uint64_t lo) noexcept nogil:
    cdef TallyEntry* e = _entry(s, hi, lo)
    if e.total == 0:
        e.hi = hi
        e.lo = lo
        e.half_open = 0
    e.total += 1
    e.half_open += 1


cdef void tally_add(Tcp* s, Tcb* t) noexcept nogil:
    """A new passive connection, half open."""
    if s.tally != NULL:
        _add(s, t.flow.dst.hi, _peer(&t.flow.dst))
        _add(s, PORT, t.lport)


cdef void tally_opened(Tcp* s, Tcb* t) noexcept nogil:
    """It is no longer half open."""
    if s.tally != NULL:
        _entry(s, t.flow.dst.hi, _peer(&t.flow.dst)).half_open -= 1
        _entry(s, PORT, t.lport).half_open -= 1


cdef void _remove(Tcp* s, uint64_t hi, uint64_t lo) noexcept nogil:
    """Count down; a free entry is filled from behind, so that no probe sequence breaks."""
    cdef TallyEntry* e = _entry(s, hi, lo)
    cdef uint32_t i = <uint32_t>(e - s.tally), j, home
    e.total -= 1
    if e.total:
        return
    j = i
    while True:
        j = (j + 1) & s.tally_mask
        if s.tally[j].total == 0:
            break
        home = _home(s, s.tally[j].hi, s.tally[j].lo)
        if ((j - home) & s.tally_mask) >= ((j - i) & s.tally_mask):
            s.tally[i] = s.tally[j]
            i = j
    s.tally[i].total = 0


cdef void tally_remove(Tcp* s, Tcb* t) noexcept nogil:
    """A passive connection is gone."""
    if s.tally != NULL:
        _remove(s, t.flow.dst.hi, _peer(&t.flow.dst))
        _remove(s, PORT, t.lport)
