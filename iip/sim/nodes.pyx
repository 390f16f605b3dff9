"""What stands between hosts: a router, which forwards IP packets, and a switch, which forwards Ethernet frames.

Both forward at once: what takes time and room is the links' business.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from iip.address cimport addr_parse
from iip.drivers.queue cimport packet_copy
from iip.memory.pool cimport NIL, Packet, Pool, pkt, pkt_alloc, pkt_copy_out, pkt_data, pkt_free, pkt_tailroom
from iip.net.types cimport PROTO_ICMP, PROTO_ICMP6, Addr, addr_from4, addr_from6, addr_v4
from iip.sim.network cimport Network, Node, Way
from iip.wire.bytes cimport load16_be, store16, store16_be
from iip.wire.checksum cimport csum_fold, csum_partial, csum_pseudo6, csum_update16
from iip.wire.ethernet cimport ETH_HLEN, eth_is_group, eth_same, eth_src
from iip.wire.icmp cimport (ICMP4_ECHO_REPLY, ICMP4_ECHO, ICMP4_FRAG_NEEDED, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE,
                            ICMP6_TIME_EXCEEDED, ICMP6_TOO_BIG, ICMP6_UNREACHABLE, ICMP_HLEN, icmp_build)
from iip.wire.ipv4 cimport (IP4_DF, IP4_HLEN, IP4_MF, IP4_OFFSET, ip4_build, ip4_frag, ip4_hlen,
                            ip4_store_sum, ip4_total_len, ip_version)
from iip.wire.ipv6 cimport IP6_HLEN, IP6_MIN_MTU, ip6_build, ip6_hops, ip6_next

import ipaddress

from iip.errors import ConfigError

cdef enum:
    QUOTE4 = 576                  # longest ICMP error over IPv4 (RFC 1812 §4.3.2.3), bytes
    ROUTER_TTL = 64


cdef class Router(Node):
    """Forwards IP packets by the longest matching prefix: TTL, fragments, ICMP errors (RFC 1812, RFC 8200).

    address, address6: where its ICMP errors come from. ICMP errors are not rate-limited.
    """

    def __init__(self, Network network not None, str name not None, address, address6):
        Node.__init__(self, network, name, "ip")
        self.address, self.address6 = str(address), str(address6)
        addr_parse(self.address, &self.own4, "address")
        addr_parse(self.address6, &self.own6, "address6")

    def __dealloc__(self):
        free(self.routes)

    def add_route(self, prefix, port):
        """Packets to `prefix` (``"10.1.0.0/16"``) leave through `port`. The same prefix again: the new one counts."""
        cdef Route route
        cdef uint32_t i = 0
        if not 0 <= port < self.n_ports:
            raise ConfigError(f"{self.name}: port {port} does not exist")
        try:
            net = ipaddress.ip_network(prefix, strict=False)
        except ValueError as error:
            raise ConfigError(f"{self.name}: prefix {prefix!r}: {error}") from None
        memset(&route, 0, sizeof(Route))
        addr_parse(net.network_address, &route.prefix, "prefix")
        route.length = net.prefixlen + (96 if net.version == 4 else 0)
        bits = ((1 << 128) - 1) >> (128 - route.length) << (128 - route.length)
        mask = bits.to_bytes(16, "big")
        memcpy(&route.mask, <const uint8_t*><const char*>mask, 16)
        route.port = port
        self._room()
        while i < self.n_routes and self.routes[i].length > route.length:
            i += 1
        memmove(&self.routes[i + 1], &self.routes[i], (self.n_routes - i) * sizeof(Route))
        self.routes[i] = route
        self.n_routes += 1
        memset(self.cache, 0, sizeof(self.cache))

    def _room(self):
        cdef Route* routes
        if self.n_routes == self.room:
            routes = <Route*>realloc(self.routes, (2 * self.room + 16) * sizeof(Route))
            if routes == NULL:
                raise MemoryError("no memory for another route")
            self.routes = routes
            self.room = 2 * self.room + 16

    def stats(self):
        """What happened to packets."""
        return {"forwarded": self.forwarded, "malformed": self.malformed, "no_route": self.no_route,
                "ttl_expired": self.ttl_expired, "too_big": self.too_big, "fragmented": self.fragmented,
                "no_buffer": self.no_buffer, "icmp_sent": self.icmp_sent}

    cdef int _lookup(self, const Addr* d) noexcept nogil:
        """The port for a destination, -1 if there is none."""
        cdef uint32_t i
        cdef Route* r
        cdef const uint8_t* p = <const uint8_t*>d
        cdef Known* known = &self.cache[(p[15] ^ p[14] * 31 ^ p[13] * 17) & (CACHE - 1)]
        if known.valid and known.address.hi == d.hi and known.address.lo == d.lo:
            return <int>known.port
        for i in range(self.n_routes):
            r = &self.routes[i]
            if ((d.hi ^ r.prefix.hi) & r.mask.hi) | ((d.lo ^ r.prefix.lo) & r.mask.lo) == 0:
                known.address = d[0]
                known.port = r.port
                known.valid = True
                return <int>r.port
        return -1

    cdef void receive(self, uint32_t packet, uint32_t port, int64_t now) noexcept nogil:
        cdef Packet* k = pkt(&self.network.pool.c, packet)
        cdef uint8_t* p = pkt_data(k)
        if k.len >= IP4_HLEN and ip_version(p) == 4:
            if ip4_hlen(p) >= IP4_HLEN and k.len >= ip4_hlen(p) and k.total_len >= ip4_total_len(p) \
                    and csum_fold(csum_partial(p, ip4_hlen(p), 0)) == 0:
                self._forward4(packet, now)
                return
        elif k.len >= IP6_HLEN and ip_version(p) == 6:
            self._forward6(packet, now)
            return
        self.malformed += 1
        pkt_free(&self.network.pool.c, packet)

    cdef void _forward4(self, uint32_t packet, int64_t now) noexcept nogil:
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef uint8_t* p = pkt_data(k)
        cdef uint16_t old
        cdef Addr d
        cdef int port
        cdef uint32_t mtu
        addr_from4(&d, p + 16)
        port = self._lookup(&d)
        if p[8] <= 1:
            self.ttl_expired += 1
            self._error4(packet, ICMP4_TIME_EXCEEDED, 0, 0, now)
        elif port < 0:
            self.no_route += 1
            self._error4(packet, ICMP4_UNREACHABLE, 0, 0, now)
        else:
            mtu = (<Way>self.out[port]).mtu
            if k.total_len > mtu and ip4_frag(p) & IP4_DF:
                self.too_big += 1
                self._error4(packet, ICMP4_UNREACHABLE, ICMP4_FRAG_NEEDED, mtu, now)    # RFC 1191 §4
            else:
                old = load16_be(p + 8)
                p[8] -= 1
                store16_be(p + 10, csum_update16(load16_be(p + 10), old, load16_be(p + 8)))
                if k.total_len > mtu:
                    self._fragment(packet, port, now)
                else:
                    self.forwarded += 1
                    (<Way>self.out[port]).admit(packet, now)
                    return
        pkt_free(pool, packet)

    cdef void _forward6(self, uint32_t packet, int64_t now) noexcept nogil:
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef uint8_t* p = pkt_data(k)
        cdef Addr d
        cdef int port
        addr_from6(&d, p + 24)
        port = self._lookup(&d)
        if ip6_hops(p) <= 1:
            self.ttl_expired += 1
            self._error6(packet, ICMP6_TIME_EXCEEDED, 0, 0, now)
        elif port < 0:
            self.no_route += 1
            self._error6(packet, ICMP6_UNREACHABLE, 0, 0, now)
        elif k.total_len > (<Way>self.out[port]).mtu:
            self.too_big += 1
            self._error6(packet, ICMP6_TOO_BIG, 0, (<Way>self.out[port]).mtu, now)      # RFC 8201
        else:
            p[7] -= 1
            self.forwarded += 1
            (<Way>self.out[port]).admit(packet, now)
            return
        pkt_free(pool, packet)

    cdef void _fragment(self, uint32_t packet, int port, int64_t now) noexcept nogil:
        """RFC 791 §3.2; the original stays with the caller. Options are copied to every piece."""
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef const uint8_t* p = pkt_data(k)
        cdef Packet* f
        cdef uint8_t* q
        cdef uint32_t hlen = ip4_hlen(p), total = ip4_total_len(p), at = hlen, n, piece
        cdef uint32_t step = ((<Way>self.out[port]).mtu - hlen) & ~<uint32_t>7
        cdef uint32_t field = ip4_frag(p)
        self.fragmented += 1
        while at < total:
            n = min(step, total - at)
            piece = pkt_alloc(pool)
            if piece == NIL or pkt_tailroom(pkt(pool, piece)) < hlen + n:
                self.no_buffer += 1
                pkt_free(pool, piece)
                return
            f = pkt(pool, piece)
            q = pkt_data(f)
            memcpy(q, p, hlen)
            pkt_copy_out(pool, packet, at, q + hlen, n)
            f.len = f.total_len = hlen + n
            store16(q + 2, hlen + n)
            store16(q + 6, (field & (IP4_MF | IP4_OFFSET)) + ((at - hlen) >> 3)
                    | (IP4_MF if at + n < total else 0))
            store16(q + 10, 0)
            store16_be(q + 10, csum_fold(csum_partial(q, hlen, 0)))
            (<Way>self.out[port]).admit(piece, now)
            at += n

    cdef void _error4(self, uint32_t packet, uint8_t type, uint8_t code, uint32_t rest, int64_t now) noexcept nogil:
        """RFC 1812 §4.3.2: not about ICMP errors, fragments but the first, or packets to or from groups."""
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef const uint8_t* p = pkt_data(k)
        cdef uint32_t hlen = ip4_hlen(p), quote = min(k.total_len, <uint32_t>(QUOTE4 - IP4_HLEN - ICMP_HLEN)), i
        cdef Packet* a
        cdef uint8_t* q
        cdef Addr d
        if ip4_frag(p) & IP4_OFFSET or p[12] >= 224 or p[16] >= 224 or p[12] == 0:
            return
        if p[9] == PROTO_ICMP and k.len > hlen and p[hlen] != ICMP4_ECHO and p[hlen] != ICMP4_ECHO_REPLY:
            return
        i = pkt_alloc(pool)
        if i == NIL:
            self.no_buffer += 1
            return
        a = pkt(pool, i)
        q = pkt_data(a)
        self.ident += 1
        ip4_build(q, 0, <uint16_t>(IP4_HLEN + ICMP_HLEN + quote), <uint16_t>self.ident, 0, ROUTER_TTL, PROTO_ICMP,
                  addr_v4(&self.own4), p + 12)
        ip4_store_sum(q)
        icmp_build(q + IP4_HLEN, type, code, rest)
        pkt_copy_out(pool, packet, 0, q + IP4_HLEN + ICMP_HLEN, quote)
        store16_be(q + IP4_HLEN + 2, csum_fold(csum_partial(q + IP4_HLEN, ICMP_HLEN + quote, 0)))
        a.len = a.total_len = IP4_HLEN + ICMP_HLEN + quote
        addr_from4(&d, p + 12)
        self._answer(i, &d, now)

    cdef void _error6(self, uint32_t packet, uint8_t type, uint8_t code, uint32_t rest, int64_t now) noexcept nogil:
        """RFC 4443 §2.4: not about ICMP errors, or packets to or from groups."""
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef const uint8_t* p = pkt_data(k)
        cdef uint32_t quote = min(k.total_len, <uint32_t>(IP6_MIN_MTU - IP6_HLEN - ICMP_HLEN)), i
        cdef Packet* a
        cdef uint8_t* q
        cdef Addr d
        if p[8] == 0xFF or p[24] == 0xFF:
            return
        if ip6_next(p) == PROTO_ICMP6 and k.len > IP6_HLEN and p[IP6_HLEN] < 128:
            return
        i = pkt_alloc(pool)
        if i == NIL:
            self.no_buffer += 1
            return
        a = pkt(pool, i)
        q = pkt_data(a)
        ip6_build(q, 0, 0, <uint16_t>(ICMP_HLEN + quote), PROTO_ICMP6, ROUTER_TTL, &self.own6, p + 8)
        icmp_build(q + IP6_HLEN, type, code, rest)
        pkt_copy_out(pool, packet, 0, q + IP6_HLEN + ICMP_HLEN, quote)
        store16_be(q + IP6_HLEN + 2, csum_fold(csum_partial(
            q + IP6_HLEN, ICMP_HLEN + quote, csum_pseudo6(q + 8, q + 24, PROTO_ICMP6, ICMP_HLEN + quote))))
        a.len = a.total_len = IP6_HLEN + ICMP_HLEN + quote
        addr_from6(&d, p + 8)
        self._answer(i, &d, now)

    cdef void _answer(self, uint32_t answer, const Addr* destination, int64_t now) noexcept nogil:
        cdef int port = self._lookup(destination)
        if port < 0:
            pkt_free(&self.network.pool.c, answer)
            return
        self.icmp_sent += 1
        (<Way>self.out[port]).admit(answer, now)


cdef class Switch(Node):
    """Forwards Ethernet frames to where their destination was seen last, else to all other ports. It remembers
    stations in a small table without ageing. Loops are the user's to avoid."""

    def __init__(self, Network network not None, str name not None):
        Node.__init__(self, network, name, "ethernet")

    def stats(self):
        """What happened to frames."""
        return {"forwarded": self.forwarded, "flooded": self.flooded, "malformed": self.malformed}

    cdef Station* _station(self, const uint8_t* mac) noexcept nogil:
        return &self.stations[(mac[5] ^ mac[4] * 31 ^ mac[3] * 17) & (CACHE - 1)]

    cdef void receive(self, uint32_t packet, uint32_t port, int64_t now) noexcept nogil:
        cdef Pool* pool = &self.network.pool.c
        cdef Packet* k = pkt(pool, packet)
        cdef const uint8_t* p = pkt_data(k)
        cdef Station* s
        cdef uint32_t i, copy
        if k.len < ETH_HLEN:
            self.malformed += 1
            pkt_free(pool, packet)
            return
        if not eth_is_group(eth_src(p)):
            s = self._station(eth_src(p))
            memcpy(s.mac, eth_src(p), 6)
            s.port = port
            s.valid = True
        s = self._station(p)
        if s.valid and eth_same(s.mac, p):
            if s.port == port:
                pkt_free(pool, packet)
                return
            self.forwarded += 1
            (<Way>self.out[s.port]).admit(packet, now)
            return
        self.flooded += 1
        for i in range(self.n_ports):
            if i != port:
                copy = packet_copy(pool, packet, pool)
                if copy != NIL:
                    (<Way>self.out[i]).admit(copy, now)
        pkt_free(pool, packet)
