"""Rings of packet sockets: memory in which frames are exchanged with the kernel (TPACKET_V2 and V3)."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

cdef extern from *:
    """
    #include <stdint.h>
    static inline uint32_t packet_status(const uint8_t *p) {
        return __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE);
    }
    static inline void packet_give(uint8_t *p, uint32_t status) {
        __atomic_store_n((uint32_t *)p, status, __ATOMIC_RELEASE);
    }
    """
    uint32_t packet_status(const uint8_t* p) noexcept nogil
    void packet_give(uint8_t* p, uint32_t status) noexcept nogil

cdef enum:
    # linux/if_packet.h; offsets of fields in the headers of a frame, in TPACKET_V2 and V3
    KERNEL = 0
    USER = 0x01
    VLAN_VALID = 0x10
    AVAILABLE = 0
    SEND_REQUEST = 1
    OUTGOING = 4
    TX_DATA = 32                  # TPACKET_V2: where a frame to be sent begins
    V2_LEN = 4
    V2_SNAPLEN = 8
    V2_MAC = 12
    V2_KIND = 42
    V3_NEXT = 0
    V3_SNAPLEN = 12
    V3_LEN = 16
    V3_STATUS = 20
    V3_MAC = 24
    V3_KIND = 58
    BLOCK_STATUS = 8
    BLOCK_FRAMES = 12
    BLOCK_FIRST = 16


cdef struct Mapped:
    # one ring
    int fd                        # of the socket; -1: closed
    uint8_t* memory
    uint32_t blocks
    uint32_t block_size
    uint32_t slots                # in a block; 0: blocks of frames that are handed over together
    uint32_t slot_size
    uint32_t block                # where we are:
    uint32_t slot                 # slots, or frames of the block that are left
    uint8_t* at                   # the next frame in the block


cdef struct RxFrame:
    # a received one, in the ring
    uint8_t* data
    uint32_t len
    uint32_t snaplen              # of these there are
    uint32_t status
    uint8_t kind                  # PACKET_HOST, ...


cdef inline uint32_t field32(const uint8_t* p, int offset) noexcept nogil:
    return (<const uint32_t*>(p + offset))[0]


cdef inline uint32_t field16(const uint8_t* p, int offset) noexcept nogil:
    return (<const uint16_t*>(p + offset))[0]


cdef inline uint8_t* ring_slot(const Mapped* ring) noexcept nogil:
    return ring.memory + <uint64_t>ring.block * ring.block_size + <uint64_t>ring.slot * ring.slot_size


cdef inline void ring_step(Mapped* ring) noexcept nogil:
    """To the next slot."""
    ring.slot += 1
    if ring.slot == ring.slots:
        ring.slot = 0
        ring.block += 1
        if ring.block == ring.blocks:
            ring.block = 0


cdef inline void ring_block_done(Mapped* ring) noexcept nogil:
    packet_give(ring.memory + <uint64_t>ring.block * ring.block_size + BLOCK_STATUS, KERNEL)
    ring.block += 1
    if ring.block == ring.blocks:
        ring.block = 0


cdef inline bint ring_peek(Mapped* ring, RxFrame* frame) noexcept nogil:
    """The next received frame; False if there is none."""
    cdef uint8_t* p
    if ring.slots:
        p = ring_slot(ring)
        frame.status = packet_status(p)
        if not frame.status & USER:
            return False
        frame.len = field32(p, V2_LEN)
        frame.snaplen = field32(p, V2_SNAPLEN)
        frame.data = p + field16(p, V2_MAC)
        frame.kind = p[V2_KIND]
        return True
    if ring.slot == 0:
        p = ring.memory + <uint64_t>ring.block * ring.block_size
        if not packet_status(p + BLOCK_STATUS) & USER:
            return False
        ring.slot = field32(p, BLOCK_FRAMES)
        ring.at = p + field32(p, BLOCK_FIRST)
        if ring.slot == 0:        # its time was over before a frame came
            ring_block_done(ring)
            return False
    p = ring.at
    frame.status = field32(p, V3_STATUS)
    frame.len = field32(p, V3_LEN)
    frame.snaplen = field32(p, V3_SNAPLEN)
    frame.data = p + field16(p, V3_MAC)
    frame.kind = p[V3_KIND]
    return True


cdef inline void ring_done(Mapped* ring) noexcept nogil:
    """The frame that was looked at is the kernel's again."""
    if ring.slots:
        packet_give(ring_slot(ring), KERNEL)
        ring_step(ring)
        return
    ring.slot -= 1
    if ring.slot:
        ring.at += field32(ring.at, V3_NEXT)
    else:
        ring_block_done(ring)


cdef void ring_map(Mapped* to, object ring)
