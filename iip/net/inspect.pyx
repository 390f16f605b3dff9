"""A window on the network layer, for tests and for learning: one `Net` without engine, driver and TCP."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from iip.memory.pool cimport NIL, Packet, PacketPool, pkt, pkt_alloc, pkt_copy_out, pkt_data, pkt_free, pkt_tailroom
from iip.net.net cimport (Addr, Flow, IpRx, Net, NetEvent, addr_object, addr_of, net_arp_request, net_confirm,
                          net_input, net_join, net_l4_checksum, net_leave, net_loopback_pop, net_output, net_ping,
                          net_pmtu_update, net_route, net_rx_l4_checksum_ok, net_setup, net_teardown, net_timers,
                          udp_bind, udp_input, udp_send, udp_unbind)
from iip.net.ndp cimport NE_ROUTER
from iip.net.state cimport (NB_DELAY, NB_FREE, NB_INCOMPLETE, NB_PROBE, NB_REACHABLE, NB_STALE, NE_ARP_REPLY,
                            NE_CONFLICT, NE_ICMP_ERROR, NE_ICMP_REPLY, NE_UDP, NE_UNREACHABLE, NEIGH_GROUP,
                            NEIGH_LOOP, Neighbour)
from iip.net.types cimport PROTO_UDP
from iip.verdict cimport N_VERDICTS, count, ok

from iip.verdict import Verdict

_STATES = {NB_INCOMPLETE: "incomplete", NB_REACHABLE: "reachable", NB_STALE: "stale", NB_DELAY: "delay",
           NB_PROBE: "probe"}
_EVENTS = {NE_UDP: "udp", NE_ICMP_REPLY: "icmp_reply", NE_ICMP_ERROR: "icmp_error", NE_ARP_REPLY: "arp_reply",
           NE_CONFLICT: "conflict", NE_UNREACHABLE: "unreachable", NE_ROUTER: "router"}


def _name(verdict):
    return Verdict(verdict).name


cdef class NetProbe:
    """One network layer by itself: frames in, frames out, time by hand.

    `config`: a `Config`; `pool`: a `PacketPool` (one of the config's size by default); `caps`: CAP_* bits of the
    driver that is played. Time starts at 0 ns and moves by `set_time`. `close` frees what is held; `pool.full` must
    then be true.
    """
    cdef Net net
    cdef readonly PacketPool pool
    cdef uint64_t _counters[<int>N_VERDICTS]

    def __cinit__(self, config, seed=1, caps=0, pool=None):
        self.pool = pool if pool is not None else PacketPool(config.pool_packets, config.packet_size, config.headroom)
        memset(self._counters, 0, sizeof(self._counters))
        net_setup(&self.net, config, &self.pool.c, self._counters, seed, caps)

    def __dealloc__(self):
        self.close()

    def close(self):
        """Free every packet the layer holds, and its tables. Nothing else can be called afterwards."""
        net_teardown(&self.net)

    # -- time -------------------------------------------------------------------------------------------
    def set_time(self, now):
        """The time, ns, of everything that follows."""
        self.net.now = now

    def timers(self):
        """Do what is due. Returns the next deadline in ns, None if there is none."""
        cdef int64_t at = net_timers(&self.net)
        return None if at == INT64_MAX else at

    def run_until(self, end):
        """Let time pass until `end` (ns), timers included."""
        cdef int64_t at
        while True:
            at = net_timers(&self.net)
            if at > end:
                break
            self.net.now = max(at, self.net.now)
        self.net.now = end

    # -- input ------------------------------------------------------------------------------------------
    cdef uint32_t _packet(self, bytes data, tuple cuts, uint32_t flags) except? 0:
        """A chain cut at `cuts` (offsets), and wherever a cell is full."""
        cdef uint32_t head = NIL, last = NIL, i, at = 0, n, end = 0, total = len(data)
        cdef Packet* k
        while head == NIL or at < total:
            i = pkt_alloc(&self.pool.c)
            if i == NIL:
                if head != NIL:
                    pkt_free(&self.pool.c, head)
                raise MemoryError("the pool is empty")
            k = pkt(&self.pool.c, i)
            end = total
            for cut in cuts:
                if at < cut < end:
                    end = cut
            n = min(end - at, pkt_tailroom(k))
            memcpy(pkt_data(k), PyBytes_AS_STRING(data) + at, n)
            k.len = n
            at += n
            if head == NIL:
                head = i
            else:
                pkt(&self.pool.c, last).next = i
            last = i
        k = pkt(&self.pool.c, head)
        k.total_len = total
        k.flags |= flags
        return head

    def feed(self, frame, cuts=(), flags=0):
        """Hand in one frame, in pieces cut at the offsets `cuts`, with receive marks `flags`. UDP goes on to
        its port. Returns the verdict's name and, if the packet is for TCP (or was for UDP), a dict with src, dst,
        proto, ttl, tos, multicast, checksum_ok and payload (from the transport header on), else None."""
        return self._input(self._packet(bytes(frame), tuple(cuts), flags))

    cdef object _input(self, uint32_t i):
        cdef IpRx rx
        cdef int verdict = net_input(&self.net, i, &rx)
        found = None
        if verdict == ok:
            found = self._describe(&rx)
            if rx.proto == PROTO_UDP:
                verdict = udp_input(&self.net, &rx)
            else:
                pkt_free(&self.pool.c, rx.pkt)
        if verdict != ok:
            count(self._counters, verdict)
        return _name(verdict), found

    cdef dict _describe(self, IpRx* rx):
        return {"src": str(addr_object(&rx.src)), "dst": str(addr_object(&rx.dst)), "proto": rx.proto, "ttl": rx.ttl,
                "tos": rx.tos, "version": rx.version, "multicast": bool(rx.multicast),
                "checksum_ok": bool(net_rx_l4_checksum_ok(&self.net, rx)),
                "payload": self._bytes(rx.pkt, rx.l4_off, rx.l4_len)}

    def loop(self):
        """Take in what was sent to ourselves so far; a list like the results of `feed`."""
        cdef uint32_t n = self.net.n_loop
        return [self._input(net_loopback_pop(&self.net)) for _ in range(n)]

    # -- output -----------------------------------------------------------------------------------------
    cdef bytes _bytes(self, uint32_t i, uint32_t skip, uint32_t n):
        out = PyBytes_FromStringAndSize(NULL, n)
        got = pkt_copy_out(&self.pool.c, i, skip, <uint8_t*>PyBytes_AS_STRING(out), n)
        return out[:got]

    def take_output(self, marks=False):
        """The frames that were sent since the last call, as bytes; with `marks` as tuples of bytes, flags, offset
        of the transport header, offset of its checksum, and pieces."""
        cdef uint32_t n, i
        cdef Packet* k
        out = []
        for n in range(self.net.tx_len):
            i = self.net.txq[n]
            k = pkt(&self.pool.c, i)
            data = self._bytes(i, 0, k.total_len)
            pieces = 1
            while pkt(&self.pool.c, i).next != NIL:
                i = pkt(&self.pool.c, i).next
                pieces += 1
            i = self.net.txq[n]
            out.append((data, k.flags, k.l4 - k.off, k.csum_off, pieces) if marks else data)
            pkt_free(&self.pool.c, i)
        self.net.tx_len = 0
        return out

    cdef int _flow(self, Flow* f, object dst, object src, uint8_t df, uint8_t ttl, uint8_t tos) except -1:
        memset(f, 0, sizeof(Flow))
        addr_of(&f.dst, dst)
        if src is not None:
            addr_of(&f.src, src)
        f.df = df
        f.ttl = ttl
        f.tos = tos
        return 0

    cdef object _counted(self, int verdict):
        if verdict != ok:
            count(self._counters, verdict)
        return _name(verdict)

    def route(self, dst, src=None):
        """Where packets to `dst` would go: the verdict and a dict with src, mtu, and hop (the neighbour's address,
        'group', 'self', or None on a bare-IP medium)."""
        cdef Flow f
        self._flow(&f, dst, src, 0, 0, 0)
        cdef int verdict = net_route(&self.net, &f)
        if verdict != ok:
            return self._counted(verdict), None
        if f.neigh == NEIGH_GROUP:
            hop = "group"
        elif f.neigh == NEIGH_LOOP:
            hop = "self"
        else:
            hop = None if f.neigh == NIL else str(addr_object(&self.net.neigh[f.neigh].addr))
        return "ok", {"src": str(addr_object(&f.src)), "mtu": f.mtu, "hop": hop, "ttl": f.ttl}

    def send(self, dst, payload, proto=253, src=None, df=False, tos=0, ttl=0, cuts=(), csum_off=None, flags=0,
             confirm=False):
        """Send one packet of protocol `proto` with `payload`, which begins with the transport header; `csum_off`:
        where to put its checksum. `confirm`: then report progress of the flow. Returns the verdict's name."""
        cdef Flow f
        cdef uint32_t i
        cdef int verdict
        self._flow(&f, dst, src, df, ttl, tos)
        verdict = net_route(&self.net, &f)
        if verdict == ok:
            i = self._packet(bytes(payload), tuple(cuts), flags)
            if csum_off is not None:
                net_l4_checksum(&self.net, &f, i, csum_off, proto)
            verdict = net_output(&self.net, &f, i, proto)
            if confirm:
                net_confirm(&self.net, &f)
        return self._counted(verdict)

    def ping(self, dst, data=b"", ident=1, seq=1, src=None, ttl=0):
        """Send an echo request; the answer is an event. Returns the verdict's name."""
        cdef Flow f
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        self._flow(&f, dst, src, 0, ttl, 0)
        return self._counted(net_ping(&self.net, &f, ident, seq, p, len(data)))

    def udp_send(self, dst, dport, data, sport=1024, src=None, df=False):
        """Send a datagram. Returns the verdict's name."""
        cdef Flow f
        cdef const uint8_t* p = <const uint8_t*>PyBytes_AS_STRING(data)
        self._flow(&f, dst, src, df, 0, 0)
        return self._counted(udp_send(&self.net, &f, sport, dport, p, len(data)))

    def arp_request(self, address):
        """Ask who has an IPv4 address; the answer is an event. Returns the verdict's name."""
        cdef Addr a
        addr_of(&a, address)
        return self._counted(net_arp_request(&self.net, &a))

    def bind(self, port):
        """Open a UDP port; 0: all."""
        udp_bind(&self.net, port)

    def unbind(self, port):
        """Close a UDP port; 0: no longer all."""
        udp_unbind(&self.net, port)

    def join(self, group):
        """Join a multicast group. Returns the verdict's name."""
        cdef Addr a
        addr_of(&a, group)
        return self._counted(net_join(&self.net, &a))

    def leave(self, group):
        """Leave a multicast group. Returns the verdict's name."""
        cdef Addr a
        addr_of(&a, group)
        return self._counted(net_leave(&self.net, &a))

    def pmtu_update(self, dst, mtu):
        """Tell the path MTU cache; True if it learnt something."""
        cdef Addr a
        addr_of(&a, dst)
        return bool(net_pmtu_update(&self.net, &a, mtu))

    # -- what there is to see ---------------------------------------------------------------------------
    def events(self):
        """The events since the last call, as dicts; their packets are freed."""
        cdef uint32_t n
        cdef NetEvent* e
        out = []
        for n in range(self.net.n_events):
            e = &self.net.events[n]
            data = None
            if e.pkt != NIL:
                data = self._bytes(e.pkt, e.off, e.len)
                pkt_free(&self.pool.c, e.pkt)
            out.append({"type": _EVENTS[e.type], "version": e.version, "src": str(addr_object(&e.src)),
                        "dst": str(addr_object(&e.dst)), "reporter": str(addr_object(&e.reporter)), "proto": e.proto,
                        "sport": e.sport, "dport": e.dport, "ident": e.ident, "seq": e.seq, "ttl": e.ttl,
                        "tos": e.tos, "icmp": (e.icmp_type, e.icmp_code), "mtu": e.mtu,
                        "mac": ":".join(f"{b:02x}" for b in e.mac[:6]), "multicast": bool(e.multicast),
                        "data": data})
        self.net.n_events = 0
        return out

    def icmp_error(self):
        """What the transport is told after the verdict icmp_in_error."""
        e = &self.net.icmp_error
        return {"src": str(addr_object(&e.src)), "dst": str(addr_object(&e.dst)),
                "reporter": str(addr_object(&e.reporter)), "icmp": (e.type, e.code),
                "proto": e.proto, "mtu": e.mtu, "ports": (e.src_port, e.dst_port), "seq": e.seq}

    def counters(self):
        """Every counter that is not 0, by name."""
        return {_name(v): self._counters[v] for v in range(<int>N_VERDICTS) if self._counters[<int>v]}

    def neighbours(self):
        """The neighbour table: address -> (state, MAC, packets that wait)."""
        cdef uint32_t n
        cdef Neighbour* e
        out = {}
        for n in range(self.net.n_neigh):
            e = &self.net.neigh[n]
            if e.state != NB_FREE:
                mac = None if e.state == NB_INCOMPLETE else ":".join(f"{b:02x}" for b in e.hdr[:6])
                out[str(addr_object(&e.addr))] = (_STATES[e.state], mac, e.n_queued)
        return out

    @property
    def addresses(self):
        """Our addresses, the link-local one included."""
        return [str(addr_object(&self.net.addrs[i].addr)) for i in range(self.net.n_addrs)]

    @property
    def mac(self):
        return ":".join(f"{b:02x}" for b in self.net.mac[:6])

    @property
    def held(self):
        """Bytes of pool memory that incomplete datagrams hold."""
        return self.net.reassembly_held
