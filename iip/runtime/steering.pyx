"""One device for several engines in several threads: a thread that spreads what the device receives by the symmetric Toeplitz hash,
for devices that do not do so themselves."""
import os
import threading

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from iip.drivers.base cimport Driver, NEVER, pkt_from_bytes
from iip.memory.pool cimport (
    NIL, PKT_RX_IP_CSUM_OK, PKT_RX_L4_CSUM_OK, Packet, PacketPool, pkt, pkt_copy_out, pkt_data, pkt_free)
from iip.memory.raw cimport free_lines, zalloc_lines
from iip.memory.ring cimport (
    load_relaxed, ring_commit, ring_fini, ring_init, ring_len, ring_peek, ring_release, ring_reserve)
from iip.net.types cimport CAP_RX_IP_CSUM, CAP_RX_L4_CSUM
from iip.runtime.channel cimport Bell, bell_close, bell_get_up, bell_lie_down, bell_open, bell_ring, bell_sleep, fence
from iip.runtime.pair cimport clock_ns
from iip.wire.bytes cimport load16, unlikely
from iip.wire.toeplitz cimport rss_queue, toeplitz_words

from iip.errors import ConfigError
from iip.runtime.worker import name_thread

cdef extern from "<sched.h>" nogil:
    int sched_yield() noexcept

cdef extern from "<unistd.h>" nogil:
    ssize_t c_read "read"(int fd, void* buffer, size_t n) noexcept
    ssize_t c_write "write"(int fd, const void* buffer, size_t n) noexcept

cdef enum:
    BURST = 64
    MARGIN = 18                   # of a frame beyond the MTU
    ETHERTYPE_IP4 = 0x0800
    ETHERTYPE_IP6 = 0x86DD
    ETHERTYPE_ARP = 0x0806

cdef int64_t LONGEST = 100_000_000
cdef int64_t FULL = 200_000       # ns until a device that took nothing is offered it again


cdef uint16_t _fold(const uint8_t* p, int words) noexcept nogil:
    cdef uint16_t total = 0, word
    cdef int i
    for i in range(words):
        memcpy(&word, p + 2 * i, 2)
        total ^= word
    return total


cdef int steer(const uint8_t* frame, uint32_t n, bint ethernet, uint32_t queues) noexcept nogil:
    """To which queue a frame belongs: TCP and UDP by addresses and ports, fragments and questions (ARP, neighbour discovery,
    ping) to the first; answers and errors are for all (STEER_ALL), since each engine may have asked."""
    cdef uint16_t kind
    cdef uint32_t head
    if ethernet:
        if n < 14:
            return 0
        kind = load16(frame + 12)
        frame += 14
        n -= 14
        if kind == ETHERTYPE_ARP:
            return STEER_ALL if n >= 8 and load16(frame + 6) == 2 else 0
        if kind != ETHERTYPE_IP4 and kind != ETHERTYPE_IP6:
            return 0
    if n >= 20 and frame[0] >> 4 == 4:
        head = (frame[0] & 15) * 4
        if frame[9] == 1:
            return 0 if n > head and frame[head] == 8 else STEER_ALL
        if (frame[9] == 6 or frame[9] == 17) and not load16(frame + 6) & 0x3FFF and n >= head + 4:
            return <int>rss_queue(toeplitz_words(_fold(frame + 12, 4), load16(frame + head), load16(frame + head + 2)), queues)
    elif n >= 40 and frame[0] >> 4 == 6:
        if frame[6] == 58:
            return 0 if n > 40 and (frame[40] == 128 or frame[40] == 135) else STEER_ALL
        if (frame[6] == 6 or frame[6] == 17) and n >= 44:
            return <int>rss_queue(toeplitz_words(_fold(frame + 8, 16), load16(frame + 40), load16(frame + 42)), queues)
    return 0


cdef class SteeringPort(Driver):
    """What one engine has of the device."""

    def __init__(self, owner, driver):
        caps = driver.caps & (CAP_RX_IP_CSUM | CAP_RX_L4_CSUM)
        super().__init__(medium=driver.medium, mtu=driver.mtu, caps=caps, mac=driver.mac)
        self.owner = owner

    def fileno(self):
        return self.lane.ready.read_fd

    cdef int rx_burst(self, int64_t now, uint32_t* packets, int n) noexcept nogil:
        cdef uint8_t* p
        cdef size_t there, i
        cdef int got = 0
        cdef SlotHead* head
        cdef uint64_t rung
        while got < n:
            there = ring_peek(&self.lane.rx, n - got, &p)
            if there == 0:
                if load_relaxed(&self.lane.ready.asleep) == 0:     # rung: be ready for the next one, then look again
                    self.lane.ready.asleep = 1
                    fence()
                    while c_read(self.lane.ready.read_fd, &rung, 8) > 0:
                        pass
                    continue
                break
            for i in range(there):
                head = <SlotHead*>(p + i * self.lane.rx.elem_size)
                packets[got] = pkt_from_bytes(&self.pool.c, <uint8_t*>head + sizeof(SlotHead), head.n)
                if packets[got] == NIL:
                    ring_release(&self.lane.rx, i)
                    return got
                pkt(&self.pool.c, packets[got]).flags |= head.flags
                got += 1
            ring_release(&self.lane.rx, there)
        return got

    cdef int tx_burst(self, int64_t now, const uint32_t* packets, int n) noexcept nogil:
        cdef uint8_t* p
        cdef SlotHead* head
        cdef int i
        cdef uint32_t length
        for i in range(n):
            if ring_reserve(&self.lane.tx, 1, &p) == 0:
                n = i
                break
            head = <SlotHead*>p
            length = pkt(&self.pool.c, packets[i]).total_len
            head.n = pkt_copy_out(&self.pool.c, packets[i], 0, p + sizeof(SlotHead),
                                  min(length, <uint32_t>(self.lane.tx.elem_size - sizeof(SlotHead))))
            ring_commit(&self.lane.tx, 1)
            pkt_free(&self.pool.c, packets[i])
        if n:
            bell_ring(&self.owner.own)
        return n

    cdef int64_t poll_at(self, int64_t now) noexcept nogil:
        return now if ring_len(&self.lane.rx) else NEVER


cdef class Steering(Loop):
    """Gives each of `queues` engines a driver of its own (`ports`) over one device, `driver`. Frames are copied, since each engine
    has a pool of its own. `start` and `stop` its thread, or call `run` in one of yours.

    ring: frames that may wait for each engine and from it, a power of two. idle, spin: as of `Threads`.
    """

    def __init__(self, Driver driver not None, queues, *, ring=512, idle="spin-then-sleep", spin=50e-6):
        cdef uint32_t i
        cdef size_t slot
        if not isinstance(queues, int) or not 1 <= queues <= 128:
            raise ConfigError(f"queues={queues!r}: must be from 1 to 128")
        if not isinstance(ring, int) or ring & (ring - 1) or not 2 <= ring <= 1 << 16:
            raise ConfigError(f"ring={ring!r}: must be a power of two from 2 to 65536 frames")
        driver.plain()
        self.inner = driver
        self.ethernet = driver.medium == "ethernet"
        self.refused = NIL
        slot = (driver.mtu + MARGIN + sizeof(SlotHead) + 63) // 64 * 64
        self.pool = PacketPool(4 * BURST, min((driver.mtu + 18 + 128 + 63) // 64 * 64, 65536))
        driver.attach(self.pool)
        fd = driver.fileno()
        self.fd = -1 if fd is None else fd
        bell_open(&self.own)
        self.lanes = <Lane*>zalloc_lines(queues, sizeof(Lane))
        if self.lanes == NULL:
            raise MemoryError("no memory for the lanes of a device")
        self.n = queues
        self.ports = tuple(SteeringPort(self, driver) for _ in range(queues))
        for i in range(self.n):
            if (ring_init(&self.lanes[i].rx, ring, slot, NULL) != 0
                    or ring_init(&self.lanes[i].tx, ring, slot, NULL) != 0):
                raise MemoryError("no memory for the frames that wait; lower ring or queues")
            bell_open(&self.lanes[i].ready)
            self.lanes[i].ready.asleep = 1
            (<SteeringPort>self.ports[i]).lane = &self.lanes[i]
        self._thread = None

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.n):
            ring_fini(&self.lanes[i].rx)
            ring_fini(&self.lanes[i].tx)
            bell_close(&self.lanes[i].ready)
        free_lines(self.lanes)
        bell_close(&self.own)

    cdef Bell* bell(self) noexcept nogil:
        return &self.own

    cdef int ready(self) noexcept nogil:
        cdef uint32_t i
        for i in range(self.n):
            if ring_len(&self.lanes[i].tx):
                return 1
        return 0

    def stats(self):
        """Frames that no engine had room for, by queue."""
        return {"dropped": [self.lanes[i].dropped for i in range(self.n)]}

    cdef void put(self, uint32_t lane, uint32_t packet) noexcept nogil:
        cdef Lane* to = &self.lanes[lane]
        cdef Packet* k = pkt(&self.pool.c, packet)
        cdef uint8_t* p
        cdef SlotHead* head
        if k.total_len + sizeof(SlotHead) > to.rx.elem_size or ring_reserve(&to.rx, 1, &p) == 0:
            to.dropped += 1
            return
        head = <SlotHead*>p
        head.flags = k.flags & <uint32_t>(PKT_RX_IP_CSUM_OK | PKT_RX_L4_CSUM_OK)
        head.n = pkt_copy_out(&self.pool.c, packet, 0, p + sizeof(SlotHead), k.total_len)
        ring_commit(&to.rx, 1)

    cdef int turn(self, int64_t now) noexcept nogil:
        """What the device received to the engines, what they send to the device; how many frames."""
        cdef uint32_t packets[BURST]
        cdef Packet* k
        cdef int i, queue, done, moved = self.inner.rx_burst(now, packets, BURST)
        cdef uint32_t lane, packet
        cdef uint8_t* p
        for i in range(moved):
            k = pkt(&self.pool.c, packets[i])
            queue = steer(pkt_data(k), k.len, self.ethernet, self.n)
            if queue == STEER_ALL:
                for lane in range(self.n):
                    self.put(lane, packets[i])
            else:
                self.put(<uint32_t>queue, packets[i])
            pkt_free(&self.pool.c, packets[i])
        if moved:
            self.wake_ports()
        for lane in range(self.n):
            done = 0
            while done < BURST:
                if self.refused == NIL:
                    if ring_peek(&self.lanes[lane].tx, 1, &p) == 0:
                        break
                    packet = pkt_from_bytes(&self.pool.c, p + sizeof(SlotHead), (<SlotHead*>p).n)
                    if packet == NIL:
                        break
                    ring_release(&self.lanes[lane].tx, 1)
                    self.refused = packet
                if self.inner.tx_burst(now, &self.refused, 1) == 0:
                    return moved
                self.refused = NIL
                done += 1
            moved += done
        return moved

    cdef void wake_ports(self) noexcept nogil:
        cdef uint32_t i
        cdef uint64_t one = 1
        fence()
        for i in range(self.n):
            if ring_len(&self.lanes[i].rx) and load_relaxed(&self.lanes[i].ready.asleep):
                self.lanes[i].ready.asleep = 0
                c_write(self.lanes[i].ready.write_fd, &one, 8)

    cdef bint many(self) noexcept nogil:
        cdef int64_t now
        cdef int _i
        for _i in range(1 << 16):
            now = clock_ns()
            self.rounds += 1
            if unlikely(load_relaxed(&self.stopping) != 0):
                return False
            if self.turn(now):
                self.busy_at = now
            elif self.policy == 0 or (self.policy == 1 and now - self.busy_at < self.spin):
                sched_yield()
            else:
                bell_lie_down(&self.own)
                if self.ready() and self.refused == NIL:
                    bell_get_up(&self.own)
                else:
                    self.sleeps += 1
                    bell_sleep(&self.own, self.fd, -1,
                               FULL if self.refused != NIL else min(max(self.inner.poll_at(now) - now, <int64_t>0), LONGEST))
                return True
            if unlikely(self.called or self.inner.error is not None):
                return True
        return True

    def poll(self, now):
        """One round at time `now`, for who has no thread for it; how many frames."""
        return self.turn(now)

    def run(self):
        """Spread frames until `stop` is called. Raises what ended the device."""
        cdef bint on = True
        while on:
            with nogil:
                on = self.many()
            self.run_calls()
            if self.inner.error is not None:
                raise self.inner.error

    def start(self, core=None):
        """Run in a thread of its own, pinned to `core` if that is given."""
        def work():
            name_thread("iip-steer")
            if core is not None:
                os.sched_setaffinity(0, {core})
            try:
                self.run()
            except Exception as error:
                for port in self.ports:       # it comes out of the engines
                    port.error = error
        self._thread = threading.Thread(target=work, name="iip-steer", daemon=True)
        self._thread.start()

    def close(self):
        """End the thread and close the device. The engines are closed before."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        pkt_free(&self.pool.c, self.refused)
        self.refused = NIL
        self.inner.close()
