"""Transport checksums over packets, in software or left to the device."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from iip.memory.pool cimport (PKT_RX_L4_CSUM_OK, PKT_TX_L4_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, Pool, pkt,
                              pkt_data)
from iip.net.state cimport Net
from iip.net.types cimport CAP_TX_L4_CSUM, PROTO_TCP, PROTO_UDP, Addr, Flow, IpRx
from iip.wire.bytes cimport be32, likely, store16_be
from iip.wire.checksum cimport csum_fold_nocompl

cdef enum:
    IP_HEADERS = 40               # the longer of the two

cdef uint32_t chain_sum(Pool* pool, uint32_t i, uint32_t skip, uint32_t n, uint32_t sum) noexcept nogil
cdef uint32_t pseudo_sum(const Addr* src, const Addr* dst, uint8_t version, uint8_t proto,
                         uint32_t length) noexcept nogil
cdef void l4_checksum_software(Net* net, Flow* f, uint32_t i, uint16_t csum_off, uint8_t proto) noexcept nogil
cdef bint rx_l4_checksum_software(Net* net, IpRx* rx) noexcept nogil


cdef inline uint32_t flow_pseudo_sum(Flow* f, uint8_t proto, uint32_t length) noexcept nogil:
    """The pseudo-header of a routed flow (RFC 9293 §3.1, RFC 8200 §8.1): only protocol and length change."""
    cdef uint64_t sum = <uint64_t>f.pseudo + be32(length + proto)
    return <uint32_t>(sum + (sum >> 32))


cdef inline void net_l4_checksum(Net* net, Flow* f, uint32_t i, uint16_t csum_off, uint8_t proto) noexcept nogil:
    """The checksum of packet `i`, which begins at its transport header with 0 in the checksum field.

    A device that finishes checksums gets the folded sum of the pseudo-header in the field instead, unless the
    packet will be fragmented or is of a protocol that devices do not know."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint32_t n = k.total_len
    if net.caps & CAP_TX_L4_CSUM and (proto == PROTO_TCP or proto == PROTO_UDP) and (
            n + IP_HEADERS <= f.mtu or k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6)
            or n + (20 if f.version == 4 else 40) <= f.mtu):
        k.l4 = <uint16_t>k.off
        k.csum_off = csum_off
        k.flags |= PKT_TX_L4_CSUM
        store16_be(pkt_data(k) + csum_off, csum_fold_nocompl(flow_pseudo_sum(f, proto, n)))
    else:
        l4_checksum_software(net, f, i, csum_off, proto)


cdef inline bint net_rx_l4_checksum_ok(Net* net, IpRx* rx) noexcept nogil:
    """Whether the transport checksum of a received packet is right (UDP's "none" is the caller's to allow)."""
    if likely(pkt(net.pool, rx.pkt).flags & PKT_RX_L4_CSUM_OK):
        return True
    return rx_l4_checksum_software(net, rx)
