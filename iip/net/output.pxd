"""Sending IP packets."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from iip.memory.pool cimport (NIL, PKT_TX_IP_CSUM, PKT_TX_TSO4, PKT_TX_TSO6, Packet, pkt, pkt_data, pkt_push)
from iip.net.state cimport NB_REACHABLE, NEIGH_LOOP, Neighbour, Net
from iip.net.types cimport CAP_SG, CAP_TX_IP_CSUM, Flow
from iip.verdict cimport ok
from iip.wire.bytes cimport likely, unlikely
from iip.wire.ethernet cimport ETH_HLEN
from iip.wire.ipv4 cimport IP4_DF, IP4_HLEN, ip4_build, ip4_store_sum
from iip.wire.ipv6 cimport IP6_HLEN, ip6_build

cdef int net_output_slow(Net* net, Flow* f, uint32_t i, uint8_t proto) noexcept nogil


cdef inline void net_ip_header(Net* net, Flow* f, Packet* k, uint8_t proto, uint16_t ident) noexcept nogil:
    """The IP header in front of a packet that begins at its transport header."""
    cdef uint32_t n = k.total_len
    cdef uint8_t* p
    k.l4 = <uint16_t>k.off
    if f.version == 4:
        pkt_push(k, IP4_HLEN)
        p = pkt_data(k)
        ip4_build(p, f.tos, <uint16_t>(n + IP4_HLEN), ident, IP4_DF if f.df else 0, f.ttl, proto,
                  <uint8_t*>&f.src + 12, <uint8_t*>&f.dst + 12)
        if net.caps & CAP_TX_IP_CSUM:
            k.flags |= PKT_TX_IP_CSUM
        else:
            ip4_store_sum(p)
    else:
        pkt_push(k, IP6_HLEN)
        ip6_build(pkt_data(k), f.tos, 0, <uint16_t>n, proto, f.ttl, &f.src, &f.dst)
    k.l3 = <uint16_t>k.off


cdef inline int net_output(Net* net, Flow* f, uint32_t i, uint8_t proto) noexcept nogil:
    """Send packet `i`, which begins at its transport header and whose transport checksum is done, along a
    routed flow. Always takes the packet. Returns ok (sent, or waiting for the neighbour) or a verdict that was
    not counted: tx_queue_full, tx_no_buffer, ip_too_big, ip_no_route, neighbour_queue_full,
    neighbour_table_full."""
    cdef Packet* k = pkt(net.pool, i)
    cdef Neighbour* e = NULL
    cdef uint32_t most = 65535 if k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6) else f.mtu
    if unlikely(f.route_gen != net.route_gen or net.tx_len >= net.tx_cap
                or k.total_len + (IP4_HLEN if f.version == 4 else IP6_HLEN) > most
                or (k.next != NIL and not net.caps & CAP_SG) or (f.version == 4 and not f.df)):
        return net_output_slow(net, f, i, proto)
    if net.link_len:
        if unlikely(f.neigh >= net.n_neigh):
            return net_output_slow(net, f, i, proto)
        e = &net.neigh[f.neigh]
        if unlikely(e.state != NB_REACHABLE or net.now >= e.deadline):
            return net_output_slow(net, f, i, proto)
    elif unlikely(f.neigh == NEIGH_LOOP):
        return net_output_slow(net, f, i, proto)
    net_ip_header(net, f, k, proto, 0)  # RFC 6864 §4.1: an atomic datagram needs no identification
    if e != NULL:
        pkt_push(k, ETH_HLEN)
        memcpy(pkt_data(k), e.hdr, ETH_HLEN)
    net.txq[net.tx_len] = i
    net.tx_len += 1
    return ok


cdef inline void net_confirm(Net* net, Flow* f) noexcept nogil:
    """The peer made progress (an acknowledgement of new data): its neighbour entry is good (RFC 4861 §7.3.1)."""
    cdef Neighbour* e
    if f.neigh < net.n_neigh and f.route_gen == net.route_gen:
        e = &net.neigh[f.neigh]
        if e.state >= NB_REACHABLE:
            e.state = NB_REACHABLE
            e.deadline = net.now + net.neigh_lifetime
