"""TCP segments on the wire (RFC 9293 §3.1, RFC 7323, RFC 2018)."""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from iip.wire.bytes cimport load16, load32, store16, store32

cdef enum:
    TH_FIN = 0x01
    TH_SYN = 0x02
    TH_RST = 0x04
    TH_PSH = 0x08
    TH_ACK = 0x10
    TH_URG = 0x20
    TH_ECE = 0x40
    TH_CWR = 0x80
    TH_AE = 0x100                 # with the two before: the ACE counter (RFC 9768 §3.2.2)

cdef enum:
    # the ECN field of the IP header (RFC 3168 §5)
    ECT_1 = 1
    ECT_0 = 2
    ECN_MARK = 3                  # CE: congestion experienced
    ECN_FIELD = 3

cdef enum:
    TCPOPT_EOL = 0
    TCPOPT_NOP = 1
    TCPOPT_MSS = 2
    TCPOPT_WSCALE = 3
    TCPOPT_SACK_OK = 4
    TCPOPT_SACK = 5
    TCPOPT_TIMESTAMP = 8
    TCPOPT_MD5 = 19               # RFC 2385
    TCPOPT_FASTOPEN = 34          # RFC 7413
    TCPOPT_ACCECN0 = 172          # RFC 9768 §3.2.3: bytes of ECT(0), CE, ECT(1),
    TCPOPT_ACCECN1 = 174          # or ECT(1), CE, ECT(0)
    TCPOPT_EXPERIMENT = 254       # RFC 6994, shared by the value that follows

cdef enum:
    # which options a segment carried
    OPT_MSS = 0x01
    OPT_WSCALE = 0x02
    OPT_SACK_OK = 0x04
    OPT_SACK = 0x08
    OPT_TS = 0x10
    OPT_ACCECN = 0x20
    OPT_FASTOPEN = 0x40
    OPT_FASTOPEN_EXP = 0x80       # in the experimental form

cdef enum:
    TCP_HEADER = 20
    TCP_CSUM_OFF = 16
    MAX_SACK_BLOCKS = 4
    TCP_MAX_WSCALE = 14
    FASTOPEN_MAGIC = 0xF989       # of the experimental form (RFC 7413 §7)
    FASTOPEN_MIN = 4              # bytes of a cookie, an even number (RFC 7413 §4.1.1)
    FASTOPEN_MAX = 16
    BAD_OPTION = -1               # its length contradicts its kind
    SIGNED = -2                   # it has a signature that nobody here can check
    ACE_SHIFT = 6                 # of the counter within the flags
    ACE_MASK = 7


cdef struct SackBlock:
    uint32_t left
    uint32_t right


cdef struct Segment:
    # a parsed segment, host order
    uint32_t pkt                  # head of the packet chain
    uint32_t seq
    uint32_t ack
    uint32_t wnd                  # as sent, unscaled
    uint32_t len                  # payload bytes
    uint32_t header               # header bytes, options included
    uint16_t sport
    uint16_t dport
    uint16_t flags
    uint8_t opts                  # OPT_*
    uint8_t wscale
    uint8_t n_sack
    uint8_t ecn                   # of the IP header: ECT_0...
    uint16_t mss
    uint16_t urg
    uint32_t ts_val
    uint32_t ts_ecr
    SackBlock sack[4]
    const uint8_t* cookie         # Fast Open: in the packet, valid as long as it is
    uint8_t n_cookie              # its bytes; 0: a request for one
    const uint8_t* accecn         # option of accurate ECN, as the cookie; its length is checked where it is read


cdef inline void tcp_parse_header(const uint8_t* p, Segment* seg) noexcept nogil:
    """The 20 fixed bytes; the caller checked that they are there."""
    seg.sport = load16(p)
    seg.dport = load16(p + 2)
    seg.seq = load32(p + 4)
    seg.ack = load32(p + 8)
    seg.header = (p[12] >> 4) * 4
    seg.flags = load16(p + 12) & 0x1FF
    seg.wnd = load16(p + 14)
    seg.urg = load16(p + 18)
    seg.opts = 0
    seg.n_sack = 0


cdef inline bint tcp_timestamps_only(const uint8_t* p, Segment* seg) noexcept nogil:
    """The usual layout, NOP NOP TS: read it without a loop. False if the options are others."""
    if load32(p + 20) != 0x0101080Au:
        return False
    seg.opts = OPT_TS
    seg.ts_val = load32(p + 24)
    seg.ts_ecr = load32(p + 28)
    return True


cdef inline int _sack_blocks(const uint8_t* p, int n, Segment* seg) noexcept nogil:
    cdef int i
    if n % 8 != 0 or n > 8 * MAX_SACK_BLOCKS:
        return -1
    seg.n_sack = <uint8_t>(n // 8)
    for i in range(seg.n_sack):
        seg.sack[i].left = load32(p + 8 * i)
        seg.sack[i].right = load32(p + 8 * i + 4)
    seg.opts |= OPT_SACK
    return 0


cdef inline void _fastopen(const uint8_t* p, int n, uint8_t form, Segment* seg) noexcept nogil:
    """A Fast Open cookie of `n` bytes; one of an impossible length counts as not there (RFC 7413 §4.1.1)."""
    if n == 0 or (FASTOPEN_MIN <= n <= FASTOPEN_MAX and n % 2 == 0):
        seg.opts |= form
        seg.cookie = p
        seg.n_cookie = <uint8_t>n


cdef inline int _option(const uint8_t* p, int kind, int size, Segment* seg) noexcept nogil:
    """One option of `size` bytes at `p`. 0, BAD_OPTION or SIGNED."""
    if kind == TCPOPT_MSS:
        if size != 4:
            return -1
        seg.mss = load16(p + 2)
        seg.opts |= OPT_MSS
    elif kind == TCPOPT_WSCALE:
        if size != 3:
            return -1
        seg.wscale = min(p[2], <uint8_t>TCP_MAX_WSCALE)
        seg.opts |= OPT_WSCALE
    elif kind == TCPOPT_SACK_OK:
        if size != 2:
            return -1
        seg.opts |= OPT_SACK_OK
    elif kind == TCPOPT_SACK:
        return _sack_blocks(p + 2, size - 2, seg)
    elif kind == TCPOPT_TIMESTAMP:
        if size != 10:
            return -1
        seg.ts_val = load32(p + 2)
        seg.ts_ecr = load32(p + 6)
        seg.opts |= OPT_TS
    elif kind == TCPOPT_ACCECN0 or kind == TCPOPT_ACCECN1:
        seg.accecn = p
        seg.opts |= OPT_ACCECN
    elif kind == TCPOPT_FASTOPEN:
        _fastopen(p + 2, size - 2, OPT_FASTOPEN, seg)
    elif kind == TCPOPT_MD5:
        return SIGNED
    elif kind == TCPOPT_EXPERIMENT and size >= 4 and load16(p + 2) == FASTOPEN_MAGIC:
        _fastopen(p + 4, size - 4, OPT_FASTOPEN_EXP, seg)
    return 0


cdef inline int tcp_parse_options(const uint8_t* p, Segment* seg) noexcept nogil:
    """All options (RFC 9293 §3.2: unknown ones are skipped by their length). 0, BAD_OPTION or SIGNED."""
    cdef int i = TCP_HEADER, end = seg.header, kind, size, found
    while i < end:
        kind = p[i]
        if kind == TCPOPT_EOL:
            return 0
        if kind == TCPOPT_NOP:
            i += 1
            continue
        if i + 1 >= end:
            return -1
        size = p[i + 1]
        if size < 2 or i + size > end:
            return -1
        found = _option(p + i, kind, size, seg)
        if found < 0:
            return found
        i += size
    return 0


cdef inline void tcp_write_header(uint8_t* p, uint16_t sport, uint16_t dport, uint32_t seq, uint32_t ack,
                                  uint32_t header, uint16_t flags, uint32_t wnd) noexcept nogil:
    """The 20 fixed bytes with a zero checksum; `header` counts the options, a multiple of 4."""
    store16(p, sport)
    store16(p + 2, dport)
    store32(p + 4, seq)
    store32(p + 8, ack)
    store32(p + 12, (header << 26) | (<uint32_t>flags << 16) | wnd)
    store32(p + 16, 0)


cdef inline void tcp_write_timestamps(uint8_t* p, uint32_t ts_val, uint32_t ts_ecr) noexcept nogil:
    store32(p, 0x0101080Au)
    store32(p + 4, ts_val)
    store32(p + 8, ts_ecr)
