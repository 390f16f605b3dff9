"""What a frame exchanged with the kernel leaves to the other side: struct virtio_net_hdr, in front of it."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset
from iip.memory.pool cimport (
    PKT_RX_L4_CSUM_OK, PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, pkt_data)
from iip.wire.ethernet cimport ETH_HLEN, ETH_IPV4, ETH_IPV6, eth_type
from iip.wire.tcp cimport TH_CWR


cdef struct VnetHeader:
    # in native byte order
    uint8_t flags                 # VN_*
    uint8_t gso_type
    uint16_t header               # bytes of all headers
    uint16_t gso_size
    uint16_t csum_start           # from there to the end,
    uint16_t csum_offset          # the result as far behind csum_start


cdef enum:
    VN_NEEDS_CSUM = 1
    VN_DATA_VALID = 2
    VN_GSO_TCPV4 = 1
    VN_GSO_TCPV6 = 4
    VN_GSO_ECN = 0x80


cdef inline void vnet_describe(Packet* k, VnetHeader* header) noexcept nogil:
    """What the kernel has to do with a frame of ours."""
    cdef const uint8_t* tcp = k.buf + k.l4
    memset(header, 0, sizeof(VnetHeader))
    if not k.flags & PKT_TX_L4_CSUM:
        return
    header.flags = VN_NEEDS_CSUM
    header.csum_start = <uint16_t>(k.l4 - k.off)
    header.csum_offset = k.csum_off
    if k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6):
        header.gso_type = VN_GSO_TCPV4 if k.flags & PKT_TX_TSO4 else VN_GSO_TCPV6
        if tcp[13] & TH_CWR:
            header.gso_type |= VN_GSO_ECN
        header.gso_size = k.gso_size
        header.header = <uint16_t>(header.csum_start + (tcp[12] >> 4) * 4)


cdef inline void vnet_received(Packet* k, const VnetHeader* header, uint32_t link) noexcept nogil:
    """What the kernel left undone, or did for us. link: bytes of the link header."""
    cdef int kind
    if header.flags & (VN_NEEDS_CSUM | VN_DATA_VALID):
        k.flags |= PKT_RX_L4_CSUM_OK          # the bytes never left memory, or the device has verified them
    if header.gso_type and header.flags & VN_NEEDS_CSUM:
        if link:
            kind = eth_type(pkt_data(k)) if k.len >= ETH_HLEN else 0
            if kind != ETH_IPV4 and kind != ETH_IPV6:
                return
        k.l3 = <uint16_t>(k.off + link)
        k.l4 = <uint16_t>(k.off + header.csum_start)
        k.gso_size = header.gso_size
