"""Sending IP packets: whatever is not a packet of MTU size to a neighbour who is known to be there."""
from iip.memory.pool cimport PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, PKT_TX_L4_CSUM, pkt_free
from iip.net.fragment cimport ip_ident, ip_transmit
from iip.net.neighbour cimport neigh_output
from iip.net.route cimport net_route
from iip.net.state cimport NEIGH_GROUP, NEIGH_LOOP, PKT_LOOPED
from iip.verdict cimport ip_too_big, tx_queue_full
from iip.wire.ethernet cimport ETH_IPV4, ETH_IPV6, eth_build, eth_group4, eth_group6
from libc.string cimport memset


cdef int net_output_slow(Net* net, Flow* f, uint32_t i, uint8_t proto) noexcept nogil:
    """As `net_output`."""
    cdef Packet* k = pkt(net.pool, i)
    cdef uint32_t hlen = IP4_HLEN if f.version == 4 else IP6_HLEN
    cdef bint tso = (k.flags & (PKT_TX_TSO4 | PKT_TX_TSO6)) != 0
    cdef uint16_t ident = 0
    cdef int verdict
    if f.route_gen != net.route_gen:
        verdict = net_route(net, f)
        if verdict != ok:
            pkt_free(net.pool, i)
            return verdict
    if k.total_len + (IP4_HLEN if f.version == 4 else 0) > 65535 or (
            f.df and f.version == 4 and not tso and k.total_len + hlen > f.mtu):
        pkt_free(net.pool, i)
        return ip_too_big
    if f.version == 4 and not f.df:
        ident = <uint16_t>ip_ident(net, &f.src, &f.dst, proto)
    net_ip_header(net, f, k, proto, ident)
    if f.neigh < net.n_neigh:
        return neigh_output(net, f.neigh, i, f.mtu)
    if f.neigh == NEIGH_LOOP:
        return _loop(net, i)
    if f.neigh == NEIGH_GROUP:
        return _to_group(net, f, i)
    return ip_transmit(net, NULL, i, f.mtu)


cdef int _to_group(Net* net, Flow* f, uint32_t i) noexcept nogil:
    """Multicast (RFC 1112 §6.4, RFC 2464 §7) and broadcast: the link address follows from the destination."""
    cdef uint8_t mac[6]
    cdef uint8_t hdr[14]
    cdef const uint8_t* dst = <const uint8_t*>&f.dst
    if f.version == 6:
        eth_group6(mac, dst)
    elif (dst[12] & 0xF0) == 0xE0:
        eth_group4(mac, dst + 12)
    else:
        memset(mac, 0xFF, 6)
    eth_build(hdr, mac, net.mac, ETH_IPV4 if f.version == 4 else ETH_IPV6)
    return ip_transmit(net, hdr, i, f.mtu)


cdef int _loop(Net* net, uint32_t i) noexcept nogil:
    """To ourselves: it waits until the engine's next input. The length of the queue is bounded like that of
    the output."""
    cdef Packet* k = pkt(net.pool, i)
    if net.n_loop == net.tx_cap:
        pkt_free(net.pool, i)
        return tx_queue_full
    k.flags &= ~<uint32_t>(PKT_TX_IP_CSUM | PKT_TX_L4_CSUM | PKT_TX_TSO4 | PKT_TX_TSO6)
    k.flags |= PKT_LOOPED | PKT_RX_IP_CSUM_OK | PKT_RX_L4_CSUM_OK
    k.qnext = NIL
    if net.n_loop == 0:
        net.loop_head = i
    else:
        pkt(net.pool, net.loop_tail).qnext = i
    net.loop_tail = i
    net.n_loop += 1
    return ok
