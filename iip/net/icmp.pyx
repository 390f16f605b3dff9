"""ICMP for IPv4 (RFC 792, RFC 1122 §3.2.2) and IPv6 (RFC 4443): echo, and errors in both directions."""
from libc.string cimport memset
from iip.memory.pool cimport (NIL, Packet, pkt, pkt_alloc, pkt_copy_out, pkt_data,
                              pkt_tailroom)
from iip.net.checksum cimport net_l4_checksum, net_rx_l4_checksum_ok
from iip.net.link cimport chain_after, net_pullup, packet_of
from iip.net.mld cimport mld_input
from iip.net.ndp cimport nd_input, nd_router
from iip.net.output cimport net_output
from iip.net.route cimport net_pmtu_update, net_route
from iip.net.state cimport (NE_ICMP_ERROR, NE_ICMP_REPLY, NetEvent, addr_is_group, addr_is_own, addr_is_zero,
                            event_new, net_count)
from iip.net.types cimport (IcmpError, PROTO_ICMP, PROTO_ICMP6, PROTO_TCP, PROTO_UDP, addr_from4, addr_from6, addr_is4)
from iip.verdict cimport (count, icmp_bad_checksum, icmp_error_not_ours, icmp_ignored, icmp_in_echo,
                          icmp_in_echo_reply, icmp_in_error, icmp_malformed, icmp_out_echo, icmp_out_echo_reply,
                          icmp_out_error, icmp_queue_full, icmp_rate_limited, icmp_unknown_type, ip_too_big, ok,
                          tx_no_buffer)
from iip.wire.bytes cimport load16, load32
from iip.wire.icmp cimport (ICMP4_ECHO, ICMP4_ECHO_REPLY, ICMP4_FRAG_NEEDED, ICMP4_PARAM_PROBLEM, ICMP4_REDIRECT,
                            ICMP4_ROUTER_ADVERT, ICMP4_ROUTER_SOLICIT, ICMP4_SOURCE_QUENCH, ICMP4_TIME_EXCEEDED,
                            ICMP4_UNREACHABLE, ICMP6_BAD_OPTION, ICMP6_ECHO, ICMP6_ECHO_REPLY, ICMP6_MLD_DONE,
                            ICMP6_MLD_QUERY, ICMP6_MLD_REPORT1, ICMP6_MLD_REPORT2, ICMP6_NEIGHBOUR_ADVERT,
                            ICMP6_NEIGHBOUR_SOLICIT, ICMP6_PARAM_PROBLEM, ICMP6_REDIRECT, ICMP6_ROUTER_ADVERT,
                            ICMP6_ROUTER_SOLICIT, ICMP6_TOO_BIG, ICMP6_UNREACHABLE, ICMP_HLEN, icmp_build, icmp_ident,
                            icmp_seq)
from iip.wire.ipv4 cimport IP4_HLEN, IP4_OFFSET, ip4_frag, ip4_hlen, ip4_total_len, ip_version
from iip.wire.ipv6 cimport (IP6_DESTINATION, IP6_FRAGMENT, IP6_HLEN, IP6_HOP_BY_HOP, IP6_ROUTING, ip6_frag_field)

cdef enum:
    ICMP_CSUM = 2                 # offset of the checksum
    QUOTED = 8 + 60 + 60          # bytes of an error that we look at
    COPIED = 256                  # bytes of an answer that is copied, not chained
    ERROR_LEN4 = 576              # RFC 1812 §4.3.2.3
    ERROR_LEN6 = 1280             # RFC 4443 §2.4 (c)


# -- input ----------------------------------------------------------------------------------------------
cdef int _open(Net* net, IpRx* rx) noexcept nogil:
    """What is the same for every message: length, checksum, and all we read in the first piece."""
    cdef uint32_t i
    if rx.l4_len < ICMP_HLEN:
        return icmp_malformed
    i = net_pullup(net, rx.pkt, rx.l4_off + min(rx.l4_len, <uint32_t>QUOTED))
    if i == NIL:
        return tx_no_buffer
    rx.pkt = i
    return ok if net_rx_l4_checksum_ok(net, rx) else icmp_bad_checksum


cdef int icmp4_input(Net* net, IpRx* rx) noexcept nogil:
    cdef int verdict = _open(net, rx)
    cdef uint8_t type
    if verdict != ok:
        return verdict
    type = (pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off)[0]
    if type == ICMP4_ECHO:
        return _echo(net, rx, PROTO_ICMP, ICMP4_ECHO_REPLY)
    if type == ICMP4_ECHO_REPLY:
        return _echo_reply(net, rx)
    if type == ICMP4_UNREACHABLE or type == ICMP4_TIME_EXCEEDED or type == ICMP4_PARAM_PROBLEM:
        return _error4(net, rx)
    if type == ICMP4_REDIRECT or type == ICMP4_SOURCE_QUENCH or type == ICMP4_ROUTER_ADVERT \
            or type == ICMP4_ROUTER_SOLICIT:
        return icmp_ignored       # RFC 6633; a host without dynamic routes
    return icmp_unknown_type


cdef int icmp6_input(Net* net, IpRx* rx) noexcept nogil:
    cdef int verdict = _open(net, rx)
    cdef uint8_t type
    cdef uint32_t i
    if verdict != ok:
        return verdict
    type = (pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off)[0]
    if type == ICMP6_NEIGHBOUR_SOLICIT or type == ICMP6_NEIGHBOUR_ADVERT or type == ICMP6_ROUTER_ADVERT:
        i = net_pullup(net, rx.pkt, rx.l4_off + rx.l4_len)
        if i == NIL:
            return tx_no_buffer
        rx.pkt = i
        return nd_router(net, rx) if type == ICMP6_ROUTER_ADVERT else nd_input(net, rx)
    if type == ICMP6_MLD_QUERY:
        return mld_input(net, rx)
    if type == ICMP6_ROUTER_SOLICIT or type == ICMP6_REDIRECT or type == ICMP6_MLD_REPORT1 \
            or type == ICMP6_MLD_DONE or type == ICMP6_MLD_REPORT2:
        return icmp_ignored
    if addr_is_zero(&rx.src):
        return icmp_malformed
    if type == ICMP6_ECHO:
        return _echo(net, rx, PROTO_ICMP6, ICMP6_ECHO_REPLY)
    if type == ICMP6_ECHO_REPLY:
        return _echo_reply(net, rx)
    if ICMP6_UNREACHABLE <= type <= ICMP6_PARAM_PROBLEM:
        return _error6(net, rx)
    return icmp_unknown_type


cdef int _echo(Net* net, IpRx* rx, uint8_t proto, uint8_t reply) noexcept nogil:
    """Answer with the same data, from the address that was asked (RFC 1122 §3.2.2.6). IPv4 groups and
    broadcasts are not answered, IPv6 groups are (RFC 4443 §4.2). A long payload is not copied: a header of
    ours is chained in front of what was received."""
    cdef Flow f
    cdef int verdict
    cdef uint32_t j
    cdef Packet* c
    cdef uint8_t* p
    if rx.multicast and rx.version == 4:
        return icmp_ignored
    memset(&f, 0, sizeof(Flow))
    f.dst = rx.src
    f.tos = rx.tos & 0xFC
    if not addr_is_group(&rx.dst):
        f.src = rx.dst
    verdict = net_route(net, &f)
    j = pkt_alloc(net.pool) if verdict == ok else NIL
    if j == NIL:
        net_count(net, tx_no_buffer if verdict == ok else verdict)
        return icmp_in_echo
    c = pkt(net.pool, j)
    p = pkt_data(c)
    c.total_len = rx.l4_len
    if rx.l4_len <= pkt_tailroom(c) and rx.l4_len <= COPIED:
        c.len = rx.l4_len
        pkt_copy_out(net.pool, rx.pkt, rx.l4_off, p, rx.l4_len)
    else:
        c.len = ICMP_HLEN
        pkt_copy_out(net.pool, rx.pkt, rx.l4_off, p, ICMP_HLEN)
        c.next = chain_after(net, rx.pkt, rx.l4_off + ICMP_HLEN)
        rx.pkt = NIL
    icmp_build(p, reply, 0, load32(p + 4))
    net_l4_checksum(net, &f, j, ICMP_CSUM, proto)
    verdict = net_output(net, &f, j, proto)
    net_count(net, icmp_out_echo_reply if verdict == ok else verdict)
    return icmp_in_echo


cdef int _echo_reply(Net* net, IpRx* rx) noexcept nogil:
    cdef NetEvent* e = event_new(net, NE_ICMP_REPLY)
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    if e == NULL:
        count(net.counters, icmp_queue_full)
        return icmp_in_echo_reply
    e.version = rx.version
    e.proto = rx.proto
    e.ttl = rx.ttl
    e.tos = rx.tos
    e.src = rx.src
    e.dst = rx.dst
    e.ident = icmp_ident(p)
    e.seq = icmp_seq(p)
    e.pkt = rx.pkt
    e.off = rx.l4_off + ICMP_HLEN
    e.len = rx.l4_len - ICMP_HLEN
    rx.pkt = NIL
    return icmp_in_echo_reply


# -- errors that we receive -----------------------------------------------------------------------------
cdef int _error4(Net* net, IpRx* rx) noexcept nogil:
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    cdef const uint8_t* q = p + ICMP_HLEN
    cdef uint32_t n = min(rx.l4_len, <uint32_t>QUOTED) - ICMP_HLEN, hlen
    cdef IcmpError* e = &net.icmp_error
    if n < IP4_HLEN or ip_version(q) != 4:
        return icmp_malformed
    hlen = ip4_hlen(q)
    if hlen < IP4_HLEN or n < hlen + 8:
        return icmp_malformed
    memset(e, 0, sizeof(IcmpError))
    addr_from4(&e.src, q + 12)
    addr_from4(&e.dst, q + 16)
    if ip4_frag(q) & IP4_OFFSET:
        return icmp_error_not_ours
    if p[0] == ICMP4_UNREACHABLE and p[1] == ICMP4_FRAG_NEEDED:
        e.mtu = load16(p + 6)
        if e.mtu == 0:
            e.mtu = _plateau(ip4_total_len(q))
        e.mtu = max(e.mtu, <uint32_t>576)
    return _error(net, rx, p, q[9], q + hlen, n - hlen)


cdef uint32_t _plateau(uint32_t size) noexcept nogil:
    """A router that does not say its MTU: the next smaller usual one (RFC 1191 §7)."""
    cdef uint32_t[7] plateaus
    cdef int i
    plateaus[0], plateaus[1], plateaus[2], plateaus[3] = 32000, 17914, 8166, 4352
    plateaus[4], plateaus[5], plateaus[6] = 2002, 1492, 1006
    for i in range(7):
        if plateaus[i] < size:
            return plateaus[i]
    return 576


cdef int _error6(Net* net, IpRx* rx) noexcept nogil:
    """The quotation is read through the extension headers that we send ourselves and a few more."""
    cdef const uint8_t* p = pkt_data(pkt(net.pool, rx.pkt)) + rx.l4_off
    cdef const uint8_t* q = p + ICMP_HLEN
    cdef uint32_t n = min(rx.l4_len, <uint32_t>QUOTED) - ICMP_HLEN, at = IP6_HLEN
    cdef uint8_t proto
    cdef IcmpError* e = &net.icmp_error
    if n < IP6_HLEN + 8 or ip_version(q) != 6:
        return icmp_malformed
    memset(e, 0, sizeof(IcmpError))
    addr_from6(&e.src, q + 8)
    addr_from6(&e.dst, q + 24)
    if addr_is4(&e.src) or addr_is4(&e.dst):
        return icmp_error_not_ours
    proto = q[6]
    while proto == IP6_HOP_BY_HOP or proto == IP6_DESTINATION or proto == IP6_ROUTING or proto == IP6_FRAGMENT:
        if at + 8 > n or (proto == IP6_FRAGMENT and ip6_frag_field(q + at) & 0xFFF8):
            return icmp_error_not_ours
        if proto == IP6_FRAGMENT:
            proto = q[at]
            at += 8
        else:
            proto = q[at]
            at += (<uint32_t>q[at + 1] + 1) * 8
    if at + 4 > n:
        return icmp_malformed
    if p[0] == ICMP6_TOO_BIG:
        e.mtu = min(max(load32(p + 4), <uint32_t>1280), <uint32_t>65535)
    return _error(net, rx, p, proto, q + at, n - at)


cdef int _error(Net* net, IpRx* rx, const uint8_t* p, uint8_t proto, const uint8_t* l4, uint32_t n) noexcept nogil:
    """An error whose quotation begins with a packet from `icmp_error.src`. What TCP is told it first compares
    with its sequence numbers, and then lowers the path MTU itself (RFC 5927 §7)."""
    cdef IcmpError* e = &net.icmp_error
    if not addr_is_own(net, &e.src) and (not net.accept_any or addr_is_group(&e.src)):
        return icmp_error_not_ours
    e.reporter = rx.src
    e.version = rx.version
    e.type = p[0]
    e.code = p[1]
    e.proto = proto
    e.quoted = n
    if proto == PROTO_TCP or proto == PROTO_UDP:
        e.src_port = load16(l4)
        e.dst_port = load16(l4 + 2)
        if proto == PROTO_TCP and n >= 8:
            e.seq = load32(l4 + 4)
    elif n >= 8:
        e.src_port = icmp_ident(l4)
        e.dst_port = icmp_seq(l4)
    if e.mtu and proto != PROTO_TCP:
        net_pmtu_update(net, &e.dst, e.mtu)
    _tell_error(net, e)
    return icmp_in_error


cdef void _tell_error(Net* net, IcmpError* e) noexcept nogil:
    cdef NetEvent* event = event_new(net, NE_ICMP_ERROR)
    if event == NULL:
        count(net.counters, icmp_queue_full)
        return
    event.version = e.version
    event.proto = e.proto
    event.icmp_type = e.type
    event.icmp_code = e.code
    event.src = e.src
    event.dst = e.dst
    event.reporter = e.reporter
    event.mtu = e.mtu
    if e.proto == PROTO_ICMP or e.proto == PROTO_ICMP6:
        event.ident = e.src_port
        event.seq = e.dst_port
    else:
        event.sport = e.src_port
        event.dport = e.dst_port


# -- errors that we send --------------------------------------------------------------------------------
cdef bint _may_report(Net* net, IpRx* rx, uint32_t packet, uint8_t type, uint8_t code) noexcept nogil:
    """RFC 1122 §3.2.2 and RFC 4443 §2.4 (e): no errors about errors, about groups and broadcasts (except,
    with IPv6, too big and unknown options), or to a source that is not one host."""
    cdef uint8_t inner
    if addr_is_zero(&rx.src) or addr_is_group(&rx.src):
        return False
    if rx.multicast and not (rx.version == 6 and (type == ICMP6_TOO_BIG or (type == ICMP6_PARAM_PROBLEM
                                                                           and code == ICMP6_BAD_OPTION))):
        return False
    if rx.proto == PROTO_ICMP or rx.proto == PROTO_ICMP6:
        if pkt_copy_out(net.pool, packet, rx.l4_off, &inner, 1) == 0:
            return False
        if rx.version == 4:
            return inner == ICMP4_ECHO or inner == ICMP4_ECHO_REPLY or inner > ICMP4_PARAM_PROBLEM
        return inner >= ICMP6_ECHO and inner != ICMP6_REDIRECT
    return True


cdef bint _take_token(Net* net) noexcept nogil:
    """A token bucket: `icmp_rate` per second, in bursts of up to a twentieth of that, or ten."""
    cdef double burst = min(net.icmp_rate, max(net.icmp_rate / 20, 10.0))
    if net.now > net.icmp_filled_at:
        net.icmp_tokens = min(burst, net.icmp_tokens
                              + (<double>net.now - <double>net.icmp_filled_at) * 1e-9 * net.icmp_rate)
        net.icmp_filled_at = net.now
    net.icmp_tokens = min(burst, net.icmp_tokens)
    if net.icmp_tokens < 1:
        return False
    net.icmp_tokens -= 1
    return True


cdef void net_icmp_error(Net* net, IpRx* rx, uint32_t packet, uint8_t type, uint8_t code,
                         uint32_t param) noexcept nogil:
    """Report an error about a received packet, which begins at its IP header and stays the caller's, if the
    rules allow it. `param`: the second word of the message (MTU, pointer). Counts everything itself."""
    cdef Flow f
    cdef uint8_t proto = PROTO_ICMP if rx.version == 4 else PROTO_ICMP6
    cdef uint32_t j, n
    cdef Packet* c
    cdef int verdict
    if not _may_report(net, rx, packet, type, code):
        return
    if not _take_token(net):
        count(net.counters, icmp_rate_limited)
        return
    memset(&f, 0, sizeof(Flow))
    f.dst = rx.src
    if not rx.multicast:
        f.src = rx.dst
    verdict = net_route(net, &f)
    j = pkt_alloc(net.pool) if verdict == ok else NIL
    if j == NIL:
        net_count(net, tx_no_buffer if verdict == ok else verdict)
        return
    c = pkt(net.pool, j)
    n = ERROR_LEN4 - IP4_HLEN - ICMP_HLEN if rx.version == 4 else ERROR_LEN6 - IP6_HLEN - ICMP_HLEN
    n = pkt_copy_out(net.pool, packet, 0, pkt_data(c) + ICMP_HLEN, min(n, pkt_tailroom(c) - ICMP_HLEN))
    icmp_build(pkt_data(c), type, code, param)
    c.len = c.total_len = ICMP_HLEN + n
    net_l4_checksum(net, &f, j, ICMP_CSUM, proto)
    verdict = net_output(net, &f, j, proto)
    net_count(net, icmp_out_error if verdict == ok else verdict)


# -- what the application asks for ----------------------------------------------------------------------
cdef int net_ping(Net* net, Flow* f, uint16_t ident, uint16_t seq, const uint8_t* data, uint32_t n) noexcept nogil:
    """An echo request with `n` bytes of data along a flow (routed here if it is not). Returns ok (counted as
    icmp_out_echo) or a verdict that was not counted."""
    cdef int verdict = ok
    cdef uint32_t i
    cdef uint8_t proto
    if f.version == 0 or f.route_gen != net.route_gen:
        verdict = net_route(net, f)
        if verdict != ok:
            return verdict
    if n > 65535 - IP4_HLEN - ICMP_HLEN:
        return ip_too_big
    i = packet_of(net, ICMP_HLEN, data, n)
    if i == NIL:
        return tx_no_buffer
    proto = PROTO_ICMP if f.version == 4 else PROTO_ICMP6
    icmp_build(pkt_data(pkt(net.pool, i)), ICMP4_ECHO if f.version == 4 else ICMP6_ECHO, 0,
               <uint32_t>ident << 16 | seq)
    net_l4_checksum(net, f, i, ICMP_CSUM, proto)
    verdict = net_output(net, f, i, proto)
    if verdict == ok:
        count(net.counters, icmp_out_echo)
    return verdict
