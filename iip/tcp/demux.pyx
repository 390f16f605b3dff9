"""The table of connections: see demux.pxd. It is at most half full, so that probes stay short."""
from iip.tcp.tcb cimport TF_IN_TABLE


cdef void demux_insert(Tcp* s, Tcb* t) noexcept nogil:
    cdef uint32_t h = demux_hash(s, &t.flow.src, &t.flow.dst, t.lport, t.rport)
    cdef uint32_t i = h & s.table_mask
    while s.table[i].hash:
        i = (i + 1) & s.table_mask
    s.table[i].hash = h
    s.table[i].id = t.id
    t.flags |= TF_IN_TABLE


cdef void demux_remove(Tcp* s, Tcb* t) noexcept nogil:
    """Take the entry out and move those behind it up, so that no probe sequence breaks."""
    cdef uint32_t i, j, home
    if not t.flags & TF_IN_TABLE:
        return
    t.flags &= ~<uint32_t>TF_IN_TABLE
    i = demux_hash(s, &t.flow.src, &t.flow.dst, t.lport, t.rport) & s.table_mask
    while s.table[i].id != t.id or s.table[i].hash == 0:
        i = (i + 1) & s.table_mask
    j = i
    while True:
        j = (j + 1) & s.table_mask
        if s.table[j].hash == 0:
            break
        home = s.table[j].hash & s.table_mask
        # may the entry at j move to i? only if its home is not between them (circularly)
        if ((j - home) & s.table_mask) >= ((j - i) & s.table_mask):
            s.table[i] = s.table[j]
            i = j
    s.table[i].hash = 0
