"""Memory that the next packets will want, asked for while others are dealt with.

With many connections every packet meets one that is in no cache. `Ahead` takes the packets of a burst, whose headers the
engine has asked for, through four steps, each a few packets before the next: the entry of the table, the connection, the
record that the packet may acknowledge, the cell that is free then and is sent from next. Guesses are enough: a wrong one costs
time, nothing else. Connections that are silent cost nothing: what counts is how many packets meet one that was not met lately.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.memory.pool cimport NIL, Packet, pkt, pkt_data
from iip.memory.raw cimport CACHE_LINE
from iip.net.types cimport Addr, addr_from4, addr_from6
from iip.tcp.demux cimport demux_hash
from iip.tcp.tcb cimport HOT_LINES, Tcb, Tcp, tcb
from iip.wire.bytes cimport load16, prefetch, unlikely

cdef enum:
    AHEAD_ENTRY = 12              # packets before their turn
    AHEAD_CONNECTION = 8
    AHEAD_RECORD = 4
    AHEAD_CELL = 2
    AHEAD_MANY = 2048             # with fewer connections the caches know them all; so many packets ago is lately
    AHEAD_SLOTS = 16              # a power of two, more than AHEAD_ENTRY


cdef struct Ahead:
    uint32_t slots[16]            # index in the table, then the connection's


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
    for i in range(HOT_LINES):
        prefetch(p + CACHE_LINE * i)
    return s.table[entry].id


cdef inline void _record_of(Tcp* s, uint32_t id) noexcept nogil:
    """Ask for the oldest record in flight."""
    if id != NIL and tcb(s, id).rtx_head != NIL:
        prefetch(pkt(s.pool, tcb(s, id).rtx_head))


cdef inline void _cell_of(Tcp* s, uint32_t id) noexcept nogil:
    """Ask for where its headers and its payload lie."""
    cdef const uint8_t* p
    if id != NIL and tcb(s, id).rtx_head != NIL:
        p = pkt_data(pkt(s.pool, tcb(s, id).rtx_head))
        prefetch(p - CACHE_LINE)
        prefetch(p)


cdef inline uint32_t* _slot(Ahead* a, int i) noexcept nogil:
    return &a.slots[i & (AHEAD_SLOTS - 1)]


cdef inline void note_meeting(Tcp* s, Tcb* t) noexcept nogil:
    """A packet came for a connection."""
    if unlikely(t.last_rx < s.warm_since):
        s.n_cold += 1


cdef inline bint ahead_pays(Tcp* s, int n) noexcept nogil:
    """`n` packets came and there are many connections: whether to look ahead. It pays if a quarter of the packets meet connections
    that no cache holds."""
    s.n_met += n
    if unlikely(s.n_met >= AHEAD_MANY):
        s.cold = s.n_cold > s.n_met >> 2
        s.n_met = s.n_cold = 0
        s.warm_since = s.warm_next
        s.warm_next = s.now
    return s.cold


cdef inline void look_ahead(Tcp* s, Ahead* a, const uint32_t* packets, int n, int i) noexcept nogil:
    """Packet `i` of `n` is next. Begin with -AHEAD_ENTRY."""
    cdef uint32_t entry
    if i + AHEAD_ENTRY < n:
        entry = _entry_of(s, pkt(s.pool, packets[i + AHEAD_ENTRY]))
        prefetch(&s.table[entry])
        _slot(a, i + AHEAD_ENTRY)[0] = entry
    if 0 <= i + AHEAD_CONNECTION < n:
        _slot(a, i + AHEAD_CONNECTION)[0] = _connection_at(s, _slot(a, i + AHEAD_CONNECTION)[0])
    if 0 <= i + AHEAD_RECORD < n:
        _record_of(s, _slot(a, i + AHEAD_RECORD)[0])
    if 0 <= i + AHEAD_CELL < n:
        _cell_of(s, _slot(a, i + AHEAD_CELL)[0])
