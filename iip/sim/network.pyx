"""Virtual time, and what happens in it: packets that arrive and nodes that wake.

A simulation is an agenda of *things*: directions of links (`Way`), at which a packet may arrive, and nodes, which may
have to wake. Nothing here knows a clock. Packets on links are packets of the network's pool; hosts have their own.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from cpython.exc cimport PyErr_CheckSignals
from iip.drivers.base cimport NEVER
from iip.drivers.line cimport line_admit, line_clear, line_dispose, line_init, line_next, line_pop, line_stats
from iip.drivers.queue cimport (packet_copy, queue_clear, queue_dispose, queue_init, queue_len, queue_pop, queue_push,
                                queue_room)
from iip.memory.pool cimport NIL, Pool, pkt, pkt_free
from iip.net.types cimport CAP_SG
from iip.sim.agenda cimport agenda_dispose, agenda_room, agenda_set

from iip.errors import ConfigError, Exhausted

START = 1_000_000_000             # the engines' time at the beginning, ns: 0 has a meaning of its own there
cdef int64_t START_C = START

cdef enum:
    SIGNALS = 1 << 16             # things between two looks at signals
    INBOX = 1 << 14               # packets
    INBOUND = 1
    OUTBOUND = 2


cdef class Network:
    """What `Simulation` stands on: the agenda and the packets on their way.

    packets, packet_size: of the pool for packets on links.
    """

    def __init__(self, packets, packet_size):
        self.pool = PacketPool(packets=packets, packet_size=packet_size, views=16)
        self.objects = []
        self.now_c = START_C
        self.bound = START_C

    def __dealloc__(self):
        agenda_dispose(&self.agenda)
        free(self.things)

    cdef uint32_t _add(self, object thing, bint is_way) except? 0xFFFFFFFF:
        cdef Thing* things
        agenda_room(&self.agenda, self.n_things + 1)
        if self.n_things == self.room:
            things = <Thing*>realloc(self.things, (2 * self.room + 16) * sizeof(Thing))
            if things == NULL:
                raise MemoryError("no memory for another node or link")
            self.things = things
            self.room = 2 * self.room + 16
        self.objects.append(thing)
        self.things[self.n_things].object = <void*>thing
        self.things[self.n_things].is_way = is_way
        self.n_things += 1
        return self.n_things - 1

    @property
    def now_ns(self):
        """Virtual time since the beginning, ns (int)."""
        return self.now_c - START_C

    @property
    def now(self):
        """Virtual time since the beginning, s."""
        return (self.now_c - START_C) / 1e9

    def next_ns(self):
        """When something happens next, ns since the beginning; None if nothing ever will."""
        return self.agenda.heap[0].at - START_C if self.agenda.n else None

    def cut(self, at):
        """Inside `advance`: go no further than to `at` (ns since the beginning; now: stop at once)."""
        self.bound = min(self.bound, <int64_t>at + START_C)

    def wake_all(self):
        """Run every host: somebody may have called its engine."""
        for thing in self.objects:
            if isinstance(thing, Host):
                agenda_set(&self.agenda, (<Host>thing).id, self.now_c)

    def advance(self, until):
        """Let time pass to `until` (ns since the beginning), that included, or to what `cut` says; the time reached.
        Raises what callbacks raised."""
        cdef uint64_t exhausted = self.pool.c.exhausted
        self.bound = <int64_t>until + START_C
        with nogil:
            self._stretch()
        self.now_c = max(self.now_c, self.bound)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.pool.c.exhausted > exhausted:
            raise Exhausted(f"more than {self.pool.packets} packets are on the links: packets were lost that no "
                            "setting asked for; use Simulation(packets=...) with more, or smaller queues")
        return self.now_c - START_C

    def reach(self, at):
        """Nothing happens before `at` (ns since the beginning): it is then."""
        self.now_c = max(self.now_c, <int64_t>at + START_C)

    cdef void _stretch(self) noexcept nogil:
        cdef uint32_t i
        cdef uint64_t look = self.events + SIGNALS
        while self.agenda.n and self.agenda.heap[0].at <= self.bound:
            i = self.agenda.heap[0].thing
            self.now_c = max(self.now_c, self.agenda.heap[0].at)
            if self.things[i].is_way:
                (<Way>self.things[i].object).arrive(self.now_c)
            else:
                agenda_set(&self.agenda, i, NEVER)
                (<Node>self.things[i].object).wake(self.now_c)
            self.events += 1
            if self.events == look:
                look += SIGNALS
                with gil:
                    try:
                        PyErr_CheckSignals()
                    except BaseException as error:
                        self.fail(error)

    cdef void fail(self, object error) noexcept:
        """Stop as soon as possible and raise this."""
        if self.failure is None:
            self.failure = error
        self.bound = self.now_c - 1


cdef class Way:
    """One direction of a link, from `source` to `target`."""

    def __init__(self, Network network not None, Node source not None, Node target not None, settings, seed, mtu, port):
        self.network = network
        self.source, self.target = source, target
        self.mtu = mtu
        self.captures = []
        line_init(&self.line, settings, seed, source.medium)
        self.line.pool = &network.pool.c
        self.id = network._add(self, True)
        self.port = port
        source.plug(self)

    def __dealloc__(self):
        line_dispose(&self.line)

    def stats(self):
        """What happened to packets in this direction: see `docs/simulator.md`."""
        return {**line_stats(&self.line, ""), "too_long": self.too_long}

    def capture(self, writer, interface, direction):
        """Record packets as they enter (`direction` 2, seen from the source) or arrive (1, from the target)."""
        self.captures.append((writer, interface, direction))
        self.captured = True

    def clear(self):
        """Lose what is on its way."""
        line_clear(&self.line)
        agenda_set(&self.network.agenda, self.id, NEVER)

    cdef void admit(self, uint32_t packet, int64_t now) noexcept nogil:
        """A packet of the network's pool enters."""
        if self.captured:
            with gil:
                self._record(packet, now, OUTBOUND)
        if pkt(self.line.pool, packet).total_len > self.mtu + self.line.link:
            self.too_long += 1
            pkt_free(self.line.pool, packet)
            return
        line_admit(&self.line, packet, now)
        agenda_set(&self.network.agenda, self.id, line_next(&self.line))

    cdef void arrive(self, int64_t now) noexcept nogil:
        """Hand over what has arrived."""
        cdef uint32_t packet
        while True:
            packet = line_pop(&self.line, now)
            if packet == NIL:
                break
            if self.captured:
                with gil:
                    self._record(packet, now, INBOUND)
            self.target.receive(packet, self.port, now)
        agenda_set(&self.network.agenda, self.id, line_next(&self.line))

    cdef void _record(self, uint32_t packet, int64_t now, int direction) noexcept:
        try:
            frame = self.network.pool.bytes(packet)
            for writer, interface, wanted in self.captures:
                if wanted == direction:
                    writer.frame(now - START_C, frame, direction, interface)
        except BaseException as error:
            self.network.fail(error)


cdef class Node:
    """What links join."""

    def __init__(self, Network network not None, str name not None, str medium not None):
        self.network = network
        self.name = name
        self.medium = medium
        self.ways = []
        self.id = network._add(self, False)

    def __dealloc__(self):
        free(self.out)

    def __repr__(self):
        return f"<{type(self).__name__} {self.name}>"

    def plug(self, Way way not None):
        """The way out through the next port."""
        cdef void** out = <void**>realloc(self.out, (self.n_ports + 1) * sizeof(void*))
        if out == NULL:
            raise MemoryError("no memory for another link")
        self.out = out
        self.out[self.n_ports] = <void*>way
        self.ways.append(way)
        self.n_ports += 1

    cdef void receive(self, uint32_t packet, uint32_t port, int64_t now) noexcept nogil:
        """A packet of the network's pool arrives; it belongs to the node."""
        pkt_free(&self.network.pool.c, packet)

    cdef void wake(self, int64_t now) noexcept nogil:
        """The time has come that the node asked for."""


cdef class Port(Driver):
    """The interface of a host."""

    def __init__(self, Network network not None, *, medium, mtu, mac=None):
        super().__init__(medium=medium, mtu=mtu, caps=CAP_SG, mac=mac)
        self.network = network
        queue_init(&self.inbox, INBOX)

    def __dealloc__(self):
        queue_dispose(&self.inbox)

    def close(self):
        queue_clear(&self.inbox, &self.network.pool.c)

    def stats(self):
        """Packets that were dropped here, and why."""
        return {"unplugged": self.unplugged, "inbox_full": self.inbox_full, "no_buffer": self.no_buffer}

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef Pool* ours = &self.pool.c
        cdef Pool* wire = &self.network.pool.c
        cdef uint32_t packet
        cdef int count = 0
        while count < n and queue_len(&self.inbox):
            packet = queue_pop(&self.inbox)
            packets[count] = packet_copy(wire, packet, ours)
            pkt_free(wire, packet)
            if packets[count] == NIL:
                self.no_buffer += 1
            else:
                count += 1
        return count

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef Pool* wire = &self.network.pool.c
        cdef uint32_t copy
        cdef int i
        for i in range(n):
            if self.way is None:
                self.unplugged += 1
            else:
                copy = packet_copy(&self.pool.c, packets[i], wire)
                if copy != NIL:
                    pkt(wire, copy).flags = 0     # checksums are complete, and to be verified by whoever receives it
                    self.way.admit(copy, now)
            pkt_free(&self.pool.c, packets[i])
        return n


cdef class Host(Node):
    """A node with an engine: `host.engine` is an ordinary `iip.Engine`."""

    def __init__(self, Network network not None, str name not None, Port port not None, make_engine):
        Node.__init__(self, network, name, port.medium)
        self.port = port
        self.engine = make_engine(port)

    def plug(self, Way way not None):
        if self.n_ports:
            raise ConfigError(f"{self.name}: a host has one interface, and it is linked already; use a router or a "
                              "switch to reach several")
        Node.plug(self, way)
        self.port.way = way

    def stats(self):
        """Counters of the engine, and of packets dropped at the interface."""
        return {**self.engine.stats(), **self.port.stats()}

    def stall(self, seconds):
        """From now on the engine does not run for so long, as when others have its processor; packets wait meanwhile."""
        self.stalled = self.network.now_c + <int64_t>(seconds * 1e9)

    cdef void receive(self, uint32_t packet, uint32_t port, int64_t now) noexcept nogil:
        if queue_room(&self.port.inbox) == 0:
            self.port.inbox_full += 1
            pkt_free(&self.network.pool.c, packet)
            return
        queue_push(&self.port.inbox, packet)
        agenda_set(&self.network.agenda, self.id, now)

    cdef void wake(self, int64_t now) noexcept nogil:
        cdef int64_t at
        if self.engine.closed:
            return
        if now < self.stalled:
            agenda_set(&self.network.agenda, self.id, self.stalled)
            return
        self.engine.running = True
        at = self.engine.run_c(now)
        self.engine.running = False
        agenda_set(&self.network.agenda, self.id, at if at == NEVER else max(at, now))
        if self.engine.pool.c.released != NIL or self.engine.error is not None:
            with gil:
                self._look()

    cdef void _look(self) noexcept:
        self.engine.pool.drain_released()
        error, self.engine.error = self.engine.error, None
        if error is not None:
            self.network.fail(error)
