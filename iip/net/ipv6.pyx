"""IPv6 input (RFC 8200): whatever is not the plain case, which `net_input` does itself."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.memory.pool cimport (NIL, PKT_RX_BROADCAST, PKT_RX_MULTICAST, Packet, pkt, pkt_data, pkt_trim_tail)
from iip.net.icmp cimport icmp6_input, net_icmp_error
from iip.net.link cimport net_pullup
from iip.net.reassembly cimport reassembly_add
from iip.net.state cimport AK_OWN, AddrSlot, PKT_LOOPED, addr_find, addr_is_group, addr_is_zero
from iip.net.types cimport MEDIUM_ETHERNET, PROTO_ICMP6, PROTO_TCP, PROTO_UDP, Addr, addr_from6, addr_is4
from iip.verdict cimport (consumed, ip6_bad_extension, ip6_bad_payload_length, ip6_routing_header,
                          ip6_too_many_extensions, ip6_unknown_option, ip_bad_source, ip_bad_version, ip_fragment_bad,
                          ip_not_ours, ip_unknown_protocol, ok, tx_no_buffer)
from iip.wire.bytes cimport load32
from iip.wire.icmp cimport (ICMP6_BAD_FIELD, ICMP6_BAD_HEADER, ICMP6_BAD_OPTION, ICMP6_NEIGHBOUR_ADVERT,
                            ICMP6_PARAM_PROBLEM)
from iip.wire.ipv4 cimport ip_version
from iip.wire.ipv6 cimport (IP6_DESTINATION, IP6_FRAGMENT, IP6_FRAG_HLEN, IP6_HLEN, IP6_HOP_BY_HOP, IP6_NO_NEXT,
                            IP6_ROUTING, IP6OPT_PAD1, ip6_class, ip6_frag_field, ip6_frag_ident, ip6_hops, ip6_next,
                            ip6_payload_len)

cdef enum:
    L4_HEADER = 60
    MAX_EXTENSIONS = 8            # headers in one packet,
    MAX_EXTENSION_BYTES = 512     # their size together,
    MAX_OPTIONS = 32              # and options in one of them (RFC 8504 §5.3)


cdef int ipv6_input(Net* net, IpRx* rx) noexcept nogil:
    """`rx.pkt` begins at the IP header. Verdicts as `net_input`."""
    cdef uint32_t total, i = net_pullup(net, rx.pkt, IP6_HLEN)
    cdef const uint8_t* p
    cdef Packet* k
    cdef int verdict
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    k = pkt(net.pool, i)
    p = pkt_data(k)
    if k.len < IP6_HLEN:
        return ip6_bad_payload_length
    if ip_version(p) != 6:
        return ip_bad_version
    total = IP6_HLEN + ip6_payload_len(p)
    if total > k.total_len or (total == IP6_HLEN and ip6_next(p) != IP6_NO_NEXT):
        return ip6_bad_payload_length  # jumbograms (RFC 2675) included
    pkt_trim_tail(net.pool, i, k.total_len - total)
    rx.version = 6
    rx.proto = ip6_next(p)
    rx.ttl = ip6_hops(p)
    rx.tos = ip6_class(p)
    rx.l4_off = IP6_HLEN
    rx.l4_len = total - IP6_HLEN
    verdict = _addresses(net, rx, k, p)
    if verdict != ok:
        return verdict
    return _headers(net, rx)


cdef bint _is_loopback_or_mapped(const Addr* a) noexcept nogil:
    """::1, and ::ffff:0:0/96, which is how we write IPv4: neither may come from a link (RFC 4291 §2.5)."""
    cdef const uint8_t* p = <const uint8_t*>a
    return addr_is4(a) or (a.hi == 0 and load32(p + 8) == 0 and load32(p + 12) == 1)


cdef bint _claims_our_address(Net* net, const Packet* k, const uint8_t* p) noexcept nogil:
    """An advertisement from an address of ours: how another station says that it has it (RFC 4862 §5.4.4)."""
    return (net.medium == MEDIUM_ETHERNET and k.len > IP6_HLEN and p[6] == PROTO_ICMP6 and p[7] == 255
            and p[IP6_HLEN] == ICMP6_NEIGHBOUR_ADVERT)


cdef int _addresses(Net* net, IpRx* rx, Packet* k, const uint8_t* p) noexcept nogil:
    cdef AddrSlot* slot
    cdef bint looped = (k.flags & PKT_LOOPED) != 0
    addr_from6(&rx.src, p + 8)
    addr_from6(&rx.dst, p + 24)
    if addr_is_zero(&rx.dst) or _is_loopback_or_mapped(&rx.dst):
        return ip_not_ours
    slot = addr_find(net, &rx.dst)
    if slot == NULL and (not net.accept_any or addr_is_group(&rx.dst)):
        return ip_not_ours
    rx.multicast = (slot != NULL and slot.kind != AK_OWN) or k.flags & (PKT_RX_BROADCAST | PKT_RX_MULTICAST)
    slot = addr_find(net, &rx.src)
    if addr_is_group(&rx.src) or _is_loopback_or_mapped(&rx.src):
        return ip_bad_source
    if slot != NULL and not looped and not _claims_our_address(net, k, p):
        return ip_bad_source
    return ok


cdef int _problem(Net* net, IpRx* rx, uint8_t code, uint32_t pointer, int verdict) noexcept nogil:
    net_icmp_error(net, rx, rx.pkt, ICMP6_PARAM_PROBLEM, code, pointer)
    return verdict


cdef int _headers(Net* net, IpRx* rx) noexcept nogil:
    """Walk the extension headers (RFC 8200 §4) and hand on what follows them."""
    cdef uint32_t at = IP6_HLEN, named_at = 6, n = 0, i
    cdef int verdict
    while True:
        if rx.proto == IP6_HOP_BY_HOP and at != IP6_HLEN:
            return _problem(net, rx, ICMP6_BAD_HEADER, named_at, ip6_bad_extension)
        if rx.proto == IP6_FRAGMENT:
            verdict = _fragment(net, rx, at)
        elif rx.proto == IP6_HOP_BY_HOP or rx.proto == IP6_DESTINATION or rx.proto == IP6_ROUTING:
            verdict = _extension(net, rx, at)
        else:
            break
        if verdict != ok:
            return verdict
        n += 1
        if n > MAX_EXTENSIONS or rx.l4_off > IP6_HLEN + MAX_EXTENSION_BYTES:
            return ip6_too_many_extensions
        named_at = at
        at = rx.l4_off
    if rx.proto == IP6_NO_NEXT:
        return consumed
    if addr_is_zero(&rx.src) and (rx.proto != PROTO_ICMP6 or not rx.multicast):
        return ip_bad_source
    if rx.proto == PROTO_ICMP6:
        return icmp6_input(net, rx)
    if rx.proto != PROTO_TCP and rx.proto != PROTO_UDP:
        return _problem(net, rx, ICMP6_BAD_HEADER, named_at, ip_unknown_protocol)
    i = net_pullup(net, rx.pkt, rx.l4_off + min(rx.l4_len, <uint32_t>L4_HEADER))
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    return ok


cdef int _extension(Net* net, IpRx* rx, uint32_t at) noexcept nogil:
    """A hop-by-hop, destination options or routing header at `at`; steps over it."""
    cdef const uint8_t* p
    cdef uint32_t n, i
    if rx.l4_len < 8:
        return ip6_bad_extension
    i = net_pullup(net, rx.pkt, at + 8)
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    n = (<uint32_t>(pkt_data(pkt(net.pool, i)) + at)[1] + 1) * 8
    if n > rx.l4_len:
        return ip6_bad_extension
    if at + n > IP6_HLEN + MAX_EXTENSION_BYTES:
        return ip6_too_many_extensions
    i = net_pullup(net, rx.pkt, at + n)
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    p = pkt_data(pkt(net.pool, i)) + at
    if rx.proto != IP6_ROUTING:
        i = _options(net, rx, p, at, n)
        if i != ok:
            return i
    elif p[3] != 0:
        # RFC 8200 §4.4, RFC 5095 §3: no routing type is known; without segments left it is ignored
        return _problem(net, rx, ICMP6_BAD_FIELD, at + 2, ip6_routing_header)
    rx.proto = p[0]
    rx.l4_off = at + n
    rx.l4_len -= n
    return ok


cdef int _options(Net* net, IpRx* rx, const uint8_t* p, uint32_t at, uint32_t size) noexcept nogil:
    """RFC 8200 §4.2: options that we do not know say themselves what is to be done."""
    cdef uint32_t o = 2, seen = 0
    cdef uint8_t action
    while o < size:
        seen += 1
        if seen > MAX_OPTIONS:
            return ip6_too_many_extensions
        if p[o] == IP6OPT_PAD1:
            o += 1
            continue
        if o + 2 > size or o + 2 + p[o + 1] > size:
            return ip6_bad_extension
        action = p[o] >> 6
        if action == 1 or (action == 3 and rx.multicast):
            return ip6_unknown_option
        if action:
            return _problem(net, rx, ICMP6_BAD_OPTION, at + o, ip6_unknown_option)
        o += 2 + p[o + 1]
    return ok


cdef int _fragment(Net* net, IpRx* rx, uint32_t at) noexcept nogil:
    """A fragment header at `at`: ok when the datagram is whole."""
    cdef const uint8_t* p
    cdef uint16_t field
    cdef uint32_t i
    if rx.l4_len < IP6_FRAG_HLEN:
        return ip6_bad_extension
    i = net_pullup(net, rx.pkt, at + IP6_FRAG_HLEN)
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    p = pkt_data(pkt(net.pool, i)) + at
    field = ip6_frag_field(p)
    rx.proto = p[0]
    rx.l4_off = at + IP6_FRAG_HLEN
    rx.l4_len -= IP6_FRAG_HLEN
    if not field & 0xFFF9:
        return ok                 # an atomic fragment is a whole datagram (RFC 6946)
    if field & 1 and rx.l4_len & 7:
        return _problem(net, rx, ICMP6_BAD_FIELD, 4, ip_fragment_bad)
    if (field & 0xFFF8) + rx.l4_len > 65535:
        return _problem(net, rx, ICMP6_BAD_FIELD, at + 2, ip_fragment_bad)
    return reassembly_add(net, rx, ip6_frag_ident(p), field & 0xFFF8, field & 1)
