"""Memory that the next packets will want, asked for while others are dealt with.

With many connections every packet meets one that is in no cache. `Ahead` takes the packets of a burst through three
steps, each a few packets before the next: the packet's header, the entry of the table, the connection. Guesses are
enough: a wrong one costs time, nothing else.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_data
from iip.net.types cimport Addr, addr_from4, addr_from6
from iip.tcp.demux cimport demux_hash
from iip.tcp.tcb cimport Tcb, Tcp, tcb
from iip.wire.bytes cimport load16, prefetch

cdef enum:
    AHEAD_PACKET = 8              # packets before their turn
    AHEAD_ENTRY = 5
    AHEAD_CONNECTION = 3
    AHEAD_RECORD = 1
    AHEAD_MANY = 2048             # with fewer connections the caches know them all
    AHEAD_SLOTS = 8               # a power of two, more than AHEAD_ENTRY
    LINES = 12                    # of a connection that a segment usually touches


cdef struct Ahead:
    uint32_t slots[8]             # index in the table, then the connection's


cdef inline uint32_t _entry_of(Tcp* s, Packet* k) noexcept nogil:
    """The table's index for the connection of a plain TCP packet."""
    cdef const uint8_t* p = pkt_data(k) + s.net.link_len
    cdef const uint8_t* ports
    cdef Addr local, remote
    if k.len < <uint32_t>s.net.link_len + 44:
        return 0
    if p[0] == 0x45:
        addr_from4(&remote, p + 12)
        addr_from4(&local, p + 16)
        ports = p + 20
    else:
        addr_from6(&remote, p + 8)
        addr_from6(&local, p + 24)
        ports = p + 40
    return demux_hash(s, &local, &remote, load16(ports + 2), load16(ports)) & s.table_mask


cdef inline uint32_t _connection_at(Tcp* s, uint32_t entry) noexcept nogil:
    cdef const uint8_t* p
    cdef int i
    if s.table[entry].hash == 0:
        return NIL
    p = <const uint8_t*>tcb(s, s.table[entry].id)
    for i in range(LINES):
        prefetch(p + 64 * i)
    return s.table[entry].id


cdef inline void look_ahead(Tcp* s, Ahead* a, const uint32_t* packets, int n, int i) noexcept nogil:
    """Packet `i` of `n` is next."""
    cdef uint32_t* slot
    cdef Tcb* t
    if i + AHEAD_PACKET < n:
        prefetch(pkt_data(pkt(s.pool, packets[i + AHEAD_PACKET])))
    if i + AHEAD_ENTRY < n:
        slot = &a.slots[(i + AHEAD_ENTRY) & (AHEAD_SLOTS - 1)]
        slot[0] = _entry_of(s, pkt(s.pool, packets[i + AHEAD_ENTRY]))
        prefetch(&s.table[slot[0]])
    if i + AHEAD_CONNECTION < n and i >= AHEAD_ENTRY - AHEAD_CONNECTION:
        slot = &a.slots[(i + AHEAD_CONNECTION) & (AHEAD_SLOTS - 1)]
        slot[0] = _connection_at(s, slot[0])
    if i + AHEAD_RECORD < n and i >= AHEAD_ENTRY - AHEAD_RECORD:
        slot = &a.slots[(i + AHEAD_RECORD) & (AHEAD_SLOTS - 1)]
        if slot[0] != NIL:
            t = tcb(s, slot[0])
            if t.rtx_head != NIL:
                prefetch(pkt(s.pool, t.rtx_head))
                prefetch(<const uint8_t*>pkt(s.pool, t.rtx_head) + 64)
