"""Accurate ECN: see accecn.pxd."""
from libc.string cimport memset
from iip.memory.pool cimport NIL, REC_SACKED, Packet, pkt
from iip.tcp.tcb cimport *
from iip.verdict cimport count, tcp_ecn_bad_option, tcp_ecn_ce, tcp_ecn_mangled
from iip.wire.seq cimport seq_leq
from iip.wire.tcp cimport *

cdef enum:
    FIELDS = 3
    COUNTER = 0xFFFFFF            # they have 24 bits
    SHORTEST = 2                  # bytes of an option without counters
    DEMAND = 2                    # packets that bring a change: one may get lost
    BEACONS = 3                   # options in a round trip, at least (§3.2.3.3)

# by ECN field: §3.1.2 for SYN-ACKs and their ACK
cdef uint8_t[4] SHAKE
SHAKE[:] = [2, 3, 4, 6]
# by ECN field: which counter
cdef uint8_t[4] COUNTER_OF
COUNTER_OF[:] = [0, BYTES_ECT_1, BYTES_ECT_0, BYTES_CE]
# §3.2.1: not zero, so that zeroing shows
cdef uint8_t[3] FIRST
FIRST[:] = [1, 0, 1]


cdef uint8_t accecn_shake(uint8_t field) noexcept nogil:
    """ACE during the handshake: the ECN field that came."""
    return SHAKE[field]


cdef void accecn_begin(Tcp* s, Tcb* t, uint8_t field) noexcept nogil:
    """The peer's SYN, or SYN-ACK, came with that ECN field."""
    cdef AccEcn* a = accecn(s, t)
    memset(a, 0, sizeof(AccEcn))
    a.syn_field = a.field = field
    t.ce_count = t.ce_told = CEP_INIT
    if field == ECN_MARK:
        a.received = 1
        t.ce_count += 1


# -- the receiver ------------------------------------------------------------------------------------------------

cdef void accecn_received(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Count an acceptable packet (§3.2.2, §3.2.3)."""
    cdef AccEcn* a = accecn(s, t)
    cdef uint8_t i
    if seg.ecn != a.field:
        a.field = seg.ecn
        a.demand = DEMAND
    if seg.ecn == ECN_MARK:
        count(s.counters, tcp_ecn_ce)
        a.received += 1
        a.demand = DEMAND
        t.ce_count = (t.ce_count + 1) & ACE_MASK
        if a.pending < 255:
            a.pending += 1
    if seg.ecn and seg.len:
        i = COUNTER_OF[seg.ecn]
        a.received_bytes[i] += seg.len
        if i >= a.fields:
            a.fields = i + 1


cdef uint16_t accecn_flags(Tcp* s, Tcb* t, bint pure) noexcept nogil:
    """The ACE field of what leaves now; and every packet of ours is ECN-capable."""
    cdef AccEcn* a = accecn(s, t)
    cdef bint shake = t.ecn & ECN_SHAKE and t.state >= ESTABLISHED
    a.pending = 0
    t.flow.tos &= ~<uint8_t>ECN_FIELD
    if not t.ecn & ECN_DEAF:
        t.flow.tos |= ECT_0
    if not shake:
        return <uint16_t>(t.ce_count << ACE_SHIFT)
    t.ecn &= ~<uint8_t>ECN_SHAKE
    return <uint16_t>((SHAKE[a.syn_field] if pure else t.ce_count) << ACE_SHIFT)


cdef bint _due(Tcp* s, Tcb* t, AccEcn* a) noexcept nogil:
    return s.conf.ecn_option == ECN_OPTION_ALWAYS or a.demand or s.now - a.option_at >= t.srtt // BEACONS


cdef inline uint32_t _space(int fields, bint before_sack) noexcept nogil:
    """Bytes of an option of that many counters and the NOPs behind it: SACK begins two bytes before a multiple of 4."""
    cdef uint32_t n = SHORTEST + 3 * fields
    return (n + 1) // 4 * 4 + 2 if before_sack else (n + 3) // 4 * 4


cdef int _fields(AccEcn* a, uint32_t room, int* blocks) noexcept nogil:
    """How many counters have room: those that have counted something at least, for which one of three SACK blocks or more
    goes. -1: they have none."""
    cdef int n = FIELDS, left = blocks[0]
    while True:
        if _space(n, left > 0) + (2 + 8 * left if left else 0) <= room:
            blocks[0] = left
            return n
        n -= 1
        if n < a.fields:
            if left <= 2 or a.fields == 0:
                return -1
            left -= 1
            n = FIELDS


cdef uint32_t accecn_option(Tcp* s, Tcb* t, uint8_t* p, uint32_t room, int* blocks) noexcept nogil:
    """Write the option, before so many SACK blocks; bytes written, NOPs included. 0: there is no room, or no need."""
    cdef AccEcn* a = accecn(s, t)
    cdef uint32_t value, at = SHORTEST, end
    cdef int i, n
    if not _due(s, t, a):
        return 0
    n = _fields(a, room, blocks)
    if n < 0:
        return 0
    p[0] = TCPOPT_ACCECN1
    p[1] = <uint8_t>(SHORTEST + 3 * n)
    for i in range(n):
        value = a.received_bytes[i] + FIRST[i]
        p[at] = <uint8_t>(value >> 16)
        p[at + 1] = <uint8_t>(value >> 8)
        p[at + 2] = <uint8_t>value
        at += 3
    end = _space(n, blocks[0] > 0)
    while at < end:
        p[at] = TCPOPT_NOP
        at += 1
    a.option_at = s.now
    if a.demand:
        a.demand -= 1
    return end


# -- the sender: what the peer's option says -----------------------------------------------------------------------

cdef inline int _n_fields(Segment* seg) noexcept nogil:
    """Counters in its option; -1 when it has a length that says nothing (§3.2.3)."""
    cdef int n = seg.accecn[1] - SHORTEST
    return n // 3 if 0 <= n <= 3 * FIELDS and n % 3 == 0 else -1


cdef inline uint32_t _field(Segment* seg, int i) noexcept nogil:
    cdef const uint8_t* p = seg.accecn + SHORTEST + 3 * i
    return (<uint32_t>p[0] << 16) | (<uint32_t>p[1] << 8) | p[2]


cdef inline int _which(Segment* seg, int i) noexcept nogil:
    """The other kind has them in the opposite order."""
    return i if seg.accecn[0] == TCPOPT_ACCECN1 else FIELDS - 1 - i


cdef bint accecn_first_option(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The first option of the peer's: whether its counters are believed. Those of ECT do not begin with zero (§3.2.3.2.4)."""
    cdef int i
    for i in range(_n_fields(seg)):
        if _which(seg, i) != BYTES_CE and _field(seg, i) == 0:
            count(s.counters, tcp_ecn_mangled)
            accecn(s, t).option = OPTION_MANGLED
            return False
    accecn(s, t).option = OPTION_GOOD
    return True


cdef bint _take_option(Tcp* s, Tcb* t, Segment* seg, uint32_t* marked) noexcept nogil:
    """The counters of bytes: whether they say how many were marked since the ACK before. Counters that are left out have not
    changed."""
    cdef AccEcn* a = accecn(s, t)
    cdef int i, k, n = _n_fields(seg)
    cdef uint32_t change[3]
    change[BYTES_CE] = 0
    for i in range(n):
        k = _which(seg, i)
        change[k] = (_field(seg, i) - FIRST[k] - a.delivered_bytes[k]) & COUNTER
        if change[k] > COUNTER // 2:
            n = -1
            break
    if n < 0:
        count(s.counters, tcp_ecn_bad_option)
        return False
    marked[0] = change[BYTES_CE]
    for i in range(n):
        a.delivered_bytes[_which(seg, i)] += change[_which(seg, i)]
    return n > 1


# -- the sender: what the counter of packets says -------------------------------------------------------------------

cdef uint32_t accecn_records(Tcp* s, Tcb* t, uint32_t ack) noexcept nogil:
    """How many packets this ACK tells the arrival of."""
    cdef uint32_t i = t.rtx_head, n = 0
    cdef Packet* k
    while i != NIL:
        k = pkt(s.pool, i)
        if not seq_leq(k.seq + rec_space(k), ack):
            break
        n += not k.flags & REC_SACKED
        i = k.qnext
    return n


cdef uint32_t _marks(Tcb* t, AckInfo* info, uint32_t few, bint exact, uint32_t bytes) noexcept nogil:
    """RFC 9768 A.2: the counter may have wrapped when an ACK is for more packets than it can count; the bytes tell if it
    has, and without them it has."""
    cdef uint32_t packets = max(info.packets, (info.delivered + t.mss - 1) // t.mss), many
    if packets <= ACE_MASK:
        return few
    many = packets - ((packets - few) & ACE_MASK)
    if not exact:
        return many
    if bytes == 0 or (bytes <= few * t.mss and few):
        return few
    return many if bytes >= many * t.mss // 2 else few


cdef void accecn_feedback(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil:
    """Something of ours arrived: with how many marks (§3.2.2.5)."""
    cdef AccEcn* a = accecn(s, t)
    cdef uint32_t n, bytes = 0
    cdef bint exact
    if t.ecn & ECN_DEAF or info.seg.flags & TH_SYN:
        return
    exact = info.seg.opts & OPT_ACCECN and a.option == OPTION_GOOD and _take_option(s, t, info.seg, &bytes)
    n = _marks(t, info, ((info.seg.flags >> ACE_SHIFT) - t.ce_told) & ACE_MASK, exact, bytes)
    t.ce_told = (t.ce_told + n) & ACE_MASK
    a.delivered += n
    info.marked = bytes if exact else min(n * t.mss, info.delivered)
    info.ece = n != 0
