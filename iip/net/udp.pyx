"""UDP (RFC 768, RFC 8085): a port is open or not; datagrams are events."""
from iip.memory.pool cimport NIL, PKT_RX_L4_CSUM_OK, pkt, pkt_data, pkt_free, pkt_trim_tail
from iip.net.checksum cimport net_l4_checksum, net_rx_l4_checksum_ok
from iip.net.icmp cimport net_icmp_error
from iip.net.link cimport packet_of
from iip.net.output cimport net_output
from iip.net.route cimport net_route
from iip.net.state cimport NE_UDP, NetEvent, event_new
from iip.net.types cimport PROTO_UDP
from iip.verdict cimport (count, ip_too_big, ok, tx_no_buffer, udp_bad_checksum, udp_in, udp_malformed, udp_no_port,
                          udp_out, udp_queue_full)
from iip.wire.bytes cimport load16_be
from iip.wire.icmp cimport ICMP4_PORT_UNREACHABLE, ICMP4_UNREACHABLE, ICMP6_PORT_UNREACHABLE, ICMP6_UNREACHABLE
from iip.wire.ipv4 cimport IP4_HLEN
from iip.wire.udp cimport UDP_CSUM, UDP_HLEN, udp_build, udp_dport, udp_len, udp_sport


cdef int udp_input(Net* net, IpRx* rx) noexcept nogil:
    """A datagram: queued as an event if its port is open, else port unreachable. Takes the packet; returns a
    verdict that was not counted."""
    cdef int verdict = _input(net, rx)
    if rx.pkt != NIL:
        pkt_free(net.pool, rx.pkt)
        rx.pkt = NIL
    return verdict


cdef int _input(Net* net, IpRx* rx) noexcept nogil:
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    cdef uint32_t n
    cdef uint16_t port
    cdef NetEvent* e
    if rx.l4_len < UDP_HLEN:
        return udp_malformed
    n = udp_len(p)
    if n < UDP_HLEN or n > rx.l4_len:
        return udp_malformed
    if n < rx.l4_len:
        pkt_trim_tail(net.pool, rx.pkt, rx.l4_len - n)
        rx.l4_len = n
    if load16_be(p + UDP_CSUM) == 0 and not pkt(net.pool, rx.pkt).flags & PKT_RX_L4_CSUM_OK:
        if rx.version == 6:
            return udp_bad_checksum  # RFC 8200 §8.1: IPv6 has no checksum of its own
    elif not net_rx_l4_checksum_ok(net, rx):
        return udp_bad_checksum
    port = udp_dport(p)
    if not net.udp_all and not net.udp_ports[port >> 3] >> (port & 7) & 1:
        if rx.version == 4:
            net_icmp_error(net, rx, rx.pkt, ICMP4_UNREACHABLE, ICMP4_PORT_UNREACHABLE, 0)
        else:
            net_icmp_error(net, rx, rx.pkt, ICMP6_UNREACHABLE, ICMP6_PORT_UNREACHABLE, 0)
        return udp_no_port
    e = event_new(net, NE_UDP)
    if e == NULL:
        return udp_queue_full
    e.version = rx.version
    e.proto = PROTO_UDP
    e.ttl = rx.ttl
    e.tos = rx.tos
    e.multicast = rx.multicast
    e.src = rx.src
    e.dst = rx.dst
    e.sport = udp_sport(p)
    e.dport = port
    e.pkt = rx.pkt
    e.off = rx.l4_off + UDP_HLEN
    e.len = n - UDP_HLEN
    rx.pkt = NIL
    return udp_in


cdef int udp_send(Net* net, Flow* f, uint16_t sport, uint16_t dport, const uint8_t* data, uint32_t n) noexcept nogil:
    """Send `n` bytes along a flow (routed here if it is not), in fragments if need be. Returns ok (counted as
    udp_out) or a verdict that was not counted."""
    cdef int verdict
    cdef uint32_t i
    if f.version == 0 or f.route_gen != net.route_gen:
        verdict = net_route(net, f)
        if verdict != ok:
            return verdict
    if n > 65535 - UDP_HLEN - (IP4_HLEN if f.version == 4 else 0):
        return ip_too_big
    i = packet_of(net, UDP_HLEN, data, n)
    if i == NIL:
        return tx_no_buffer
    udp_build(pkt_data(pkt(net.pool, i)), sport, dport, <uint16_t>(UDP_HLEN + n))
    net_l4_checksum(net, f, i, UDP_CSUM, PROTO_UDP)
    verdict = net_output(net, f, i, PROTO_UDP)
    if verdict == ok:
        count(net.counters, udp_out)
    return verdict


cdef void udp_bind(Net* net, uint16_t port) noexcept nogil:
    """Open a port; 0: all of them."""
    if port == 0:
        net.udp_all = True
    else:
        net.udp_ports[port >> 3] |= 1 << (port & 7)


cdef void udp_unbind(Net* net, uint16_t port) noexcept nogil:
    """Close a port; 0: take back the opening of all, those bound one by one stay open."""
    if port == 0:
        net.udp_all = False
    else:
        net.udp_ports[port >> 3] &= ~(1 << (port & 7))
