"""The packet pool: equal cells in one arena, and a descriptor for every view of them.

A *direct* descriptor owns one cell. An *indirect* one is a view of somebody else's bytes: of a direct
packet's cell, or of memory the application lent (an *external* owner). Every descriptor has exactly one
holder; who wants to share takes a slice or a clone. An owner counts the views of its bytes, itself
included: they live as long as any of them. Packets are descriptor indexes.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.wire.bytes cimport likely, prefetch, unlikely

cdef extern from *:
    """
    #define IIP_NIL 0xFFFFFFFFu
    """
    const uint32_t NIL "IIP_NIL"  # no packet

cdef enum:
    FREE_AHEAD = 4                # packets that are taken after the next one and asked for already
    VIEWS_AHEAD = 12              # the same for views, of which a segment takes three
    MOST_HEADERS = 52             # of IPv4, and TCP with timestamps, bytes


cdef enum:
    # what descriptor this is
    PKT_INDIRECT = 0x0001
    PKT_EXTERNAL = 0x0002
    PKT_FREED = 0x0004            # its holder gave it back (others may still look at its bytes)
    PKT_HELD = 0x0008             # received, and it waited behind a gap
    # receive: what the device has already done
    PKT_RX_IP_CSUM_OK = 0x0010
    PKT_RX_L4_CSUM_OK = 0x0020
    PKT_RX_BROADCAST = 0x0040     # by link-layer destination
    PKT_RX_MULTICAST = 0x0080
    PKT_HEADERS = 0x1000          # its cell is shared by packets that hold headers only
    # transmit: what the device has still to do
    PKT_TX_IP_CSUM = 0x0100       # IPv4 header checksum
    PKT_TX_L4_CSUM = 0x0200       # checksum from `l4` to the end into l4 + csum_off, which holds the pseudo-header sum
    PKT_TX_TSO4 = 0x0400          # cut into segments of gso_size payload bytes
    PKT_TX_TSO6 = 0x0800
    # TCP retransmission record
    REC_SYN = 0x00010000
    REC_FIN = 0x00020000
    REC_SACKED = 0x00040000
    REC_LOST = 0x00080000
    REC_RETRANS = 0x00100000      # retransmitted and still thought to be in flight: in the connection's list of those
    REC_EVER_RETRANS = 0x00200000
    REC_PUSH = 0x00400000
    REC_APP_LIMITED = 0x00800000
    REC_RUN = 0x01000000          # SACKed, and so are all up to the `tnext` of its detail


cdef extern from *:
    """
    typedef struct {                  /* one cache line: those of thousands of packets fill all sets of a cache */
        uint8_t* buf;
        uint32_t buf_len, off, len, total_len, next, refs, parent, flags;
        union {
            struct { uint16_t l3, l4, csum_off, gso_size; };
            struct { uint16_t l3_, n_sent, segs; };
            struct { uint16_t l3__, l4_; uint32_t n_block; };
        };
        uint32_t qnext, seq;
        union {
            uint32_t aux;
            int64_t sent_at;
        };
    } iip_packet;
    _Static_assert(sizeof(iip_packet) == 64, "a descriptor is a cache line");
    """
    ctypedef struct Packet "iip_packet":
        uint8_t* buf              # start of the buffer
        uint32_t buf_len          # its size, bytes
        uint32_t off              # first byte of this packet in it
        uint32_t len              # bytes of this piece
        uint32_t total_len        # bytes of the whole chain; valid in its head only
        uint32_t next             # next piece of the chain, or NIL
        uint32_t refs             # owners: views of the bytes, itself included
        uint32_t parent           # indirect: the owner of the bytes; otherwise itself
        uint32_t flags
        uint16_t l3               # offset of the IP header from `buf`; see also order.pxd
        # of a packet that came or leaves:
        uint16_t l4               # offset of the transport header from `buf`
        uint16_t csum_off         # from l4
        uint16_t gso_size
        # of a record, in the same place:
        uint16_t n_sent           # how often it was transmitted
        uint16_t segs             # segments it stands for (TSO)
        # of one that waits behind a gap:
        uint32_t n_block          # see reorder.pxd
        uint32_t qnext            # link of whatever queue the packet waits in
        uint32_t seq              # TCP: sequence number of the first byte; reassembly: fragment offset
        uint32_t aux              # whoever owns the packet at the moment
        int64_t sent_at           # of a record, in the place of `aux`: when it was transmitted last, ns


cdef struct Detail:
    # what few packets need: another cache line for each, in another table
    # TCP's record of a segment in flight
    uint32_t tprev                # records that were sent again, in that order
    uint32_t tnext                # (of one that was SACKed: see REC_RUN)
    int64_t first_sent_at         # of a record that was sent again, ns
    # delivery rate, with CC_RATE: what it was like when the record left; see Tcb
    int64_t delivered_at          # 0: no sample comes from it
    uint32_t delivered
    uint32_t lost
    uint32_t send_interval        # in units of 64 ns: up to 274 s
    uint32_t in_flight            # bytes, itself included
    # external: what to hand back,
    void* owner
    void (*release)(void* owner) noexcept  # and how; called with the GIL held
    uint64_t unused


cdef struct Pool:
    Packet* packets
    Detail* details
    uint32_t* free_direct         # stacks of descriptor indexes
    uint32_t* free_indirect
    uint32_t n_free_direct
    uint32_t n_free_indirect
    uint32_t n_direct
    uint32_t n_indirect
    uint32_t cell_size
    uint32_t headroom
    uint32_t headers              # bytes of them that packets mostly have, in front of `headroom`
    uint32_t header_cell          # where the next packet for headers only is, if it still is for those,
    uint32_t header_end           # and the end of the last one in it
    uint32_t reserve              # cells that new data leaves alone: a sixteenth, or a received packet's worth
    uint8_t* arena
    uint64_t exhausted            # failed allocations
    uint64_t pinned               # bytes of memory that is lent
    uint32_t released             # external owners whose last reference went, linked by qnext


cdef inline Packet* pkt(Pool* pool, uint32_t i) noexcept nogil:
    return &pool.packets[i]


cdef inline Detail* pkt_detail(Pool* pool, Packet* k) noexcept nogil:
    return &pool.details[k - pool.packets]


cdef inline uint8_t* pkt_data(Packet* k) noexcept nogil:
    return k.buf + k.off


cdef inline void pkt_push(Packet* k, uint32_t n) noexcept nogil:
    """Make room for a header of `n` bytes in front; the caller knows that it fits."""
    k.off -= n
    k.len += n
    k.total_len += n


cdef inline void pkt_pull(Packet* k, uint32_t n) noexcept nogil:
    """Take `n` bytes off the front of this piece."""
    k.off += n
    k.len -= n
    k.total_len -= n


cdef inline void _pkt_reset(Packet* k, uint32_t flags) noexcept nogil:
    k.len = 0
    k.total_len = 0
    k.next = NIL
    k.refs = 1
    k.flags = flags
    k.l3 = 0
    k.l4 = 0
    k.csum_off = 0
    k.gso_size = 0
    k.qnext = NIL


cdef inline uint32_t pkt_alloc(Pool* pool) noexcept nogil:
    """An empty packet with the pool's headroom in front, one reference; NIL (counted) if none is left."""
    cdef uint32_t i, ahead
    cdef const uint8_t* cell
    cdef Packet* k
    if unlikely(pool.n_free_direct == 0):
        pool.exhausted += 1
        return NIL
    pool.n_free_direct -= 1
    i = pool.free_direct[pool.n_free_direct]
    k = &pool.packets[i]
    if likely(pool.n_free_direct >= FREE_AHEAD):
        ahead = pool.free_direct[pool.n_free_direct - FREE_AHEAD]
        prefetch(&pool.packets[ahead])
        cell = pool.arena + <size_t>ahead * pool.cell_size + pool.headroom
        prefetch(cell - pool.headers)
        prefetch(cell - 1)
    _pkt_reset(k, 0)
    k.off = pool.headroom
    return i


cdef inline bint pool_low(Pool* pool) noexcept nogil:
    """Little is free (an eighth of a usual pool): it is for acknowledgements, retransmissions and the segments that
    fill gaps, without which nothing would ever be freed."""
    return pool.n_free_direct <= 2 * pool.reserve


cdef inline bint pool_very_low(Pool* pool) noexcept nogil:
    """Even less is free: it is for retransmissions, acknowledgements and what comes in alone."""
    return pool.n_free_direct <= pool.reserve or pool.n_free_indirect <= pool.n_indirect >> 4


cdef inline bint pool_views_low(Pool* pool, uint32_t need) noexcept nogil:
    """The same for views, of which `need` are wanted: segments leave as views of what is kept for retransmission."""
    return pool.n_free_indirect < (pool.n_indirect >> 3) + need


cdef inline uint32_t pkt_root(Pool* pool, uint32_t i) noexcept nogil:
    """The descriptor that owns the bytes of packet `i`."""
    return pool.packets[i].parent


cdef inline uint32_t pkt_slice(Pool* pool, uint32_t src, uint32_t off, uint32_t n) noexcept nogil:
    """A new view of `n` bytes from `off` (from the start of the buffer) of one piece; NIL if none is left."""
    cdef uint32_t i, root, ahead
    cdef Packet* k
    cdef Packet* s
    if unlikely(pool.n_free_indirect == 0):
        pool.exhausted += 1
        return NIL
    pool.n_free_indirect -= 1
    i = pool.free_indirect[pool.n_free_indirect]
    if likely(pool.n_free_indirect >= VIEWS_AHEAD):
        ahead = pool.free_indirect[pool.n_free_indirect - VIEWS_AHEAD]
        prefetch(&pool.packets[ahead])
    k = &pool.packets[i]
    s = &pool.packets[src]
    root = s.parent
    pool.packets[root].refs += 1
    _pkt_reset(k, PKT_INDIRECT)
    k.buf = s.buf
    k.buf_len = s.buf_len
    k.off = off
    k.len = n
    k.total_len = n
    k.parent = root
    return i


cdef inline uint32_t pkt_headers(Pool* pool) noexcept nogil:
    """A packet for headers only, with the pool's headroom in front and no room behind. Many lie in one cell, so that those of
    thousands of segments in flight take few pages. NIL (not counted) when views are rather for what must be views."""
    cdef Packet* root = pkt(pool, pool.header_cell)
    cdef uint32_t i
    if unlikely(pool.n_free_indirect <= pool.n_indirect >> 1):
        return NIL
    if unlikely(not root.flags & PKT_HEADERS or root.refs == 0
                or pool.header_end + pool.headroom > pool.cell_size):
        return pkt_headers_in_new_cell(pool)
    pool.header_end += pool.headroom
    i = pkt_slice(pool, pool.header_cell, pool.header_end, 0)
    pkt(pool, i).buf_len = pool.header_end
    return i


cdef inline void _pkt_unref_root(Pool* pool, uint32_t i) noexcept nogil:
    cdef Packet* k = &pool.packets[i]
    k.refs -= 1
    if k.refs == 0:
        if unlikely(k.flags & PKT_EXTERNAL):
            k.qnext = pool.released
            pool.released = i
        else:
            pool.free_direct[pool.n_free_direct] = i
            pool.n_free_direct += 1


cdef inline void pkt_free(Pool* pool, uint32_t i) noexcept nogil:
    """The holder gives packet `i` and the rest of its chain back; the bytes go with their last view."""
    cdef Packet* k
    cdef uint32_t nxt
    while i != NIL:
        k = &pool.packets[i]
        nxt = k.next
        k.flags |= PKT_FREED
        if k.flags & PKT_INDIRECT:
            pool.free_indirect[pool.n_free_indirect] = i
            pool.n_free_indirect += 1
            _pkt_unref_root(pool, k.parent)
        else:
            k.next = NIL
            _pkt_unref_root(pool, i)
        i = nxt


cdef inline uint32_t pkt_hold(Pool* pool, uint32_t i) noexcept nogil:
    """Keep the bytes of packet `i` without taking a view. Returns their owner, for `pkt_unhold`."""
    cdef uint32_t root = pool.packets[i].parent
    pool.packets[root].refs += 1
    return root


cdef inline void pkt_unhold(Pool* pool, uint32_t root) noexcept nogil:
    _pkt_unref_root(pool, root)


cdef inline uint32_t pkt_headroom(Packet* k) noexcept nogil:
    return k.off


cdef inline uint32_t pkt_tailroom(Packet* k) noexcept nogil:
    return k.buf_len - k.off - k.len


cdef uint32_t pkt_headers_in_new_cell(Pool* pool) noexcept nogil
cdef uint32_t pkt_clone(Pool* pool, uint32_t i) noexcept nogil
cdef uint32_t pkt_copy_out(Pool* pool, uint32_t i, uint32_t skip, uint8_t* dst, uint32_t n) noexcept nogil
cdef uint32_t pkt_split(Pool* pool, uint32_t i, uint32_t n) noexcept nogil
cdef uint32_t pkt_linearize(Pool* pool, uint32_t i) noexcept nogil
cdef uint32_t pkt_chain_len(Pool* pool, uint32_t i) noexcept nogil
cdef void pkt_trim_head(Pool* pool, uint32_t i, uint32_t n) noexcept nogil
cdef void pkt_trim_tail(Pool* pool, uint32_t i, uint32_t n) noexcept nogil
cdef uint32_t pkt_external(Pool* pool, uint8_t* data, uint32_t n, void* owner,
                           void (*release)(void*) noexcept) noexcept nogil


cdef class PacketPool:
    cdef Pool c
    cdef object memory            # keeps the arena alive
    cdef void* _tables
    cdef void drain_released(self)
    cdef uint32_t _checked(self, index) except? 0
    cdef bint _holds(self, uint32_t head, uint32_t i)
