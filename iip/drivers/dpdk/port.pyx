"""Starting DPDK, and its ports: devices with their queues, set up once and shared by a driver for each queue."""
from libc.errno cimport EALREADY, ENODEV
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset, strdup

from iip.drivers.base cimport pkt_from_bytes
from iip.drivers.dpdk.rte cimport (
    RTE_ETH_EVENT_INTR_RMV, RTE_ETH_MQ_RX_RSS, RTE_ETH_RSS_IPV4, RTE_ETH_RSS_IPV6, RTE_ETH_RSS_NONFRAG_IPV4_TCP,
    RTE_ETH_RSS_NONFRAG_IPV4_UDP, RTE_ETH_RSS_NONFRAG_IPV6_TCP, RTE_ETH_RSS_NONFRAG_IPV6_UDP, RTE_ETH_RX_OFFLOAD_IPV4_CKSUM,
    RTE_ETH_RX_OFFLOAD_SCATTER, RTE_ETH_RX_OFFLOAD_TCP_CKSUM, RTE_ETH_RX_OFFLOAD_TCP_LRO, RTE_ETH_RX_OFFLOAD_UDP_CKSUM,
    RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, RTE_ETH_TX_OFFLOAD_MULTI_SEGS, RTE_ETH_TX_OFFLOAD_TCP_CKSUM, RTE_ETH_TX_OFFLOAD_TCP_TSO,
    RTE_ETH_TX_OFFLOAD_UDP_CKSUM, RTE_PKTMBUF_HEADROOM, rte_bus_name, rte_dev_bus, rte_dev_probe, rte_dev_remove, rte_eal_init,
    rte_errno, rte_eth_allmulticast_enable, rte_eth_conf, rte_eth_dev_adjust_nb_rx_tx_desc, rte_eth_dev_callback_register,
    rte_eth_dev_callback_unregister, rte_eth_dev_close, rte_eth_dev_configure, rte_eth_dev_get_mtu, rte_eth_dev_get_port_by_name,
    rte_eth_dev_info_get, rte_eth_dev_is_removed, rte_eth_dev_rss_reta_update, rte_eth_dev_set_mtu, rte_eth_dev_socket_id,
    rte_eth_dev_start, rte_eth_dev_stop, rte_eth_event_type, rte_eth_macaddr_get, rte_eth_promiscuous_enable,
    rte_eth_rss_reta_entry64, rte_eth_rx_queue_setup, rte_eth_rxconf, rte_eth_stats, rte_eth_stats_get, rte_eth_tx_queue_setup,
    rte_eth_txconf, rte_ether_addr, rte_mbuf, rte_openlog_stream, rte_pktmbuf_alloc, rte_pktmbuf_free, rte_pktmbuf_pool_create,
    rte_mempool_free, rte_ring_create, rte_ring_dequeue, rte_ring_enqueue, rte_ring_free)
from iip.memory.pool cimport NIL
from iip.net.types cimport CAP_LRO, CAP_RX_IP_CSUM, CAP_RX_L4_CSUM, CAP_SG, CAP_TSO4, CAP_TSO6, CAP_TX_L4_CSUM
from iip.wire.bytes cimport unlikely

import os
import socket

from iip.drivers import packet_socket
from iip.drivers.dpdk import eal
from iip.errors import ConfigError, DriverError

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <stdio.h>
    #include <string.h>
    /* What DPDK says, as much as goes in, for our error messages. */
    static char iip_said[2048];
    static size_t iip_said_n;
    static ssize_t iip_hear(void *cookie, const char *text, size_t n) {
        size_t room = sizeof iip_said - iip_said_n;
        (void)cookie;
        memcpy(iip_said + iip_said_n, text, n < room ? n : room);
        iip_said_n += n < room ? n : room;
        return (ssize_t)n;
    }
    static FILE *iip_log(void) {
        cookie_io_functions_t calls = {0, iip_hear, 0, 0};
        FILE *f = fopencookie(0, "w", calls);
        if (f)
            setvbuf(f, 0, _IOLBF, 256);
        return f;
    }
    """
    char iip_said[2048]
    size_t iip_said_n
    void* iip_log()

cdef enum:
    LETTERS = 128                 # frames of neighbours that wait for a queue
    LETTER = 2048
    LINK = 18                     # header and one VLAN tag, bytes
    LARGEST = 65536 + LINK
    KEY = 64                      # bytes of the key that there are

cdef uint8_t _key[KEY]            # of the symmetric Toeplitz hash
cdef bint _initialized = False
cdef int _i
for _i in range(KEY):
    _key[_i] = 0x5A if _i & 1 else 0x6D


def initialize(*arguments):
    """Start DPDK, once in a process, with the arguments of its environment abstraction layer (EAL), like ``"-m", "512"``;
    what they leave open is chosen. The first `Dpdk` does so without arguments. Raises `DriverError` with what DPDK says."""
    global _initialized
    cdef char** words
    cdef int done, code
    if _initialized:
        if arguments:
            raise ConfigError("initialize: DPDK runs already, and takes arguments only once; call it before the first driver")
        return
    found = eal.arguments(arguments)
    # DPDK keeps the array and its strings
    words = <char**>malloc((len(found) + 1) * sizeof(char*))
    if words == NULL:
        raise MemoryError("no memory for DPDK's arguments")
    for i, word in enumerate(found):
        words[i] = strdup(word.encode())
    words[len(found)] = NULL
    rte_openlog_stream(iip_log())
    cores = os.sched_getaffinity(0)
    _forget()
    done = rte_eal_init(<int>len(found), words)
    code = rte_errno
    os.sched_setaffinity(0, cores)                 # it binds the calling thread
    if done < 0 and code != EALREADY:
        raise DriverError(f"dpdk: cannot start with {' '.join(found[1:])}: {_said(code)}")
    _initialized = True


def _forget():
    global iip_said_n
    iip_said_n = 0


def _said(int code):
    """What DPDK said about its last failure."""
    text = iip_said[:iip_said_n].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join([os.strerror(abs(code)), *lines[max(0, len(lines) - 4):]])


cdef int _removed(uint16_t port, rte_eth_event_type event, void* argument, void* _) noexcept nogil:
    (<bint*>argument)[0] = True
    return 0


cdef bint _share(const rte_eth_dev_info* info, rte_eth_conf* settings) noexcept:
    """Have the device deal flows to its queues; whether by the symmetric hash."""
    cdef uint64_t wanted = (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6 | RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP |
                            RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_NONFRAG_IPV6_UDP)
    cdef uint64_t found = wanted & info.flow_type_rss_offloads
    if not found:
        return False
    settings.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS
    settings.rx_adv_conf.rss_conf.rss_hf = found
    if not 0 < info.hash_key_size <= KEY:
        return False
    settings.rx_adv_conf.rss_conf.rss_key = _key
    settings.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size
    return found == wanted


cdef class Port:
    """The device by that name; `users` drivers share it, each with the memory of its queue."""

    def __init__(self, device, *, queues, mtu, mac, offload, ring):
        initialize()
        self.device, self.name = eal.device_name(device)
        self.queues, self.offload, self.ring, self.wanted_mtu = queues, offload, ring, mtu
        self.memories = {}
        self._probe()
        try:
            self._look()
            self._address(mac)
            self._inboxes()
        except BaseException:
            self._close()
            raise

    def _probe(self):
        cdef uint16_t port
        name = self.name.encode()
        if rte_eth_dev_get_port_by_name(name, &port) == 0:
            raise DriverError(f"dpdk: device {self.name} is open already; close its driver, or use several queues of it")
        _forget()
        failed = rte_dev_probe(self.device.encode())
        if failed or rte_eth_dev_get_port_by_name(name, &port):
            raise DriverError(f"dpdk: no device {self.device!r} ({_said(failed or ENODEV)}); is it bound to vfio-pci "
                              "(`dpdk-devbind.py --status`)? For a virtual device: is its driver there, are its arguments right?")
        self.id = port
        self.open = True
        _forget()                 # what it complained about, but could do without

    def _look(self):
        cdef uint16_t mtu = 1500
        failed = rte_eth_dev_info_get(self.id, &self.info)
        if failed:
            raise DriverError(f"dpdk: device {self.name} does not tell what it can: {os.strerror(-failed)}")
        self.virtual = rte_bus_name(rte_dev_bus(self.info.device)) == b"vdev"
        most = min(self.info.max_rx_queues, self.info.max_tx_queues, QUEUES)
        if self.queues > most:
            raise DriverError(f"dpdk: device {self.name} has {most} queues and not {self.queues}; use fewer, or make a virtual "
                              "device with more (net_af_packet: qpairs=2)")
        rte_eth_dev_get_mtu(self.id, &mtu)
        self.mtu = mtu if self.wanted_mtu is None else self.wanted_mtu
        if self.wanted_mtu is not None and not self.info.min_mtu <= self.wanted_mtu <= self.info.max_mtu:
            raise ConfigError(f"mtu={self.wanted_mtu}: device {self.name} takes {self.info.min_mtu} to {self.info.max_mtu} bytes")
        if self.info.if_index:
            self.watch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.watch.bind((socket.if_indextoname(self.info.if_index), 0))
        rte_eth_dev_callback_register(self.id, RTE_ETH_EVENT_INTR_RMV, _removed, &self.removed)

    def _address(self, mac):
        cdef rte_ether_addr address
        memset(&address, 0, sizeof(address))
        rte_eth_macaddr_get(self.id, &address)
        own = bytes(address.addr_bytes[:6])
        self.promiscuous = mac is not None and mac != own
        self.mac = own if mac is None else mac

    def _inboxes(self):
        if self.queues == 1:
            return
        self.letters = rte_pktmbuf_pool_create(f"iip_letters{self.id}".encode(), self.queues * LETTERS, 0, 0,
                                               LETTER + RTE_PKTMBUF_HEADROOM, -1)
        for i in range(self.queues):
            self.inbox[i] = rte_ring_create(f"iip_inbox{self.id}.{i}".encode(), LETTERS, -1, 0)
            if self.letters == NULL or self.inbox[i] == NULL:
                raise DriverError(f"dpdk: no memory for {self.queues} queues; give DPDK more (`initialize('-m', '512')`)")

    def plain(self):
        self.offload = False

    def capabilities(self):
        """Of the engine's, those that the device has and that are wanted."""
        rx, tx, caps = self.info.rx_offload_capa, self.info.tx_offload_capa, 0
        if tx & RTE_ETH_TX_OFFLOAD_MULTI_SEGS:
            caps |= CAP_SG
        if self.offload is False:
            return caps
        if rx & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM:
            caps |= CAP_RX_IP_CSUM
        if rx & RTE_ETH_RX_OFFLOAD_TCP_CKSUM and rx & RTE_ETH_RX_OFFLOAD_UDP_CKSUM:
            caps |= CAP_RX_L4_CSUM
            if rx & RTE_ETH_RX_OFFLOAD_TCP_LRO:
                caps |= CAP_LRO
        if tx & RTE_ETH_TX_OFFLOAD_TCP_CKSUM and tx & RTE_ETH_TX_OFFLOAD_UDP_CKSUM:
            caps |= CAP_TX_L4_CSUM
            # net_tap cuts in software, neither IPv6 nor what lies in external memory
            if caps & CAP_SG and tx & RTE_ETH_TX_OFFLOAD_TCP_TSO and tx & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM \
                    and self.driver_name() != "net_tap":
                caps |= CAP_TSO4 | CAP_TSO6
        return caps if self.offload is True else caps & (int(self.offload) | CAP_SG)

    def driver_name(self):
        return self.info.driver_name.decode()

    def pieces(self):
        """Of a frame to be sent, at most."""
        return self.info.tx_desc_lim.nb_seg_max or 1

    # -- setting up -------------------------------------------------------------------------------------------
    def join(self, int queue, pool):
        """The queue gets its packets from `pool`. When each has one, the device starts."""
        cdef Memory memory
        if not self.configured:
            self._configure(pool)
        memory = Memory(pool, self.tx_descriptors, not self.virtual)
        try:
            self._set_up(queue, memory)
        except BaseException:
            memory.dispose()
            raise
        self.memories[queue] = memory
        if len(self.memories) == self.queues:
            self._start()
        return memory

    def _configure(self, pool):
        cdef rte_eth_conf settings
        caps = self.capabilities()
        memset(&settings, 0, sizeof(settings))
        settings.rxmode.mtu = self._early_mtu()
        settings.rxmode.offloads = self._rx_offloads(pool, caps)
        if settings.rxmode.offloads & RTE_ETH_RX_OFFLOAD_TCP_LRO:
            settings.rxmode.max_lro_pkt_size = min(self.info.max_lro_pkt_size or <uint32_t>LARGEST, <uint32_t>LARGEST)
        if caps & CAP_SG:
            settings.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS
        if caps & CAP_TX_L4_CSUM:
            settings.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM
        if caps & (CAP_TSO4 | CAP_TSO6):
            settings.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_IPV4_CKSUM
        if self.queues > 1:
            self.steered = _share(&self.info, &settings)
        self._check(rte_eth_dev_configure(self.id, self.queues, self.queues, &settings), "is not set up")
        self.rx_descriptors = max(1, min(self.ring, pool.packets // 4))
        self.tx_descriptors = self.ring
        self._check(rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &self.rx_descriptors, &self.tx_descriptors), "has no limits")
        self.configured = True

    def _early_mtu(self):
        """To be set up with: not more than the device admits then, even if it can be set later."""
        cdef uint16_t before = 1500
        rte_eth_dev_get_mtu(self.id, &before)
        return self.mtu if <uint32_t>(self.mtu + LINK) <= self.info.max_rx_pktlen else before

    def _rx_offloads(self, pool, caps):
        found, there = 0, self.info.rx_offload_capa
        if caps & CAP_RX_IP_CSUM:
            found |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
        if caps & CAP_RX_L4_CSUM:
            found |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM
        if caps & CAP_LRO:
            found |= RTE_ETH_RX_OFFLOAD_TCP_LRO
        if self.mtu + LINK > pool.packet_size - RTE_PKTMBUF_HEADROOM or found & RTE_ETH_RX_OFFLOAD_TCP_LRO:
            found |= there & RTE_ETH_RX_OFFLOAD_SCATTER
            if not found & RTE_ETH_RX_OFFLOAD_SCATTER:
                need = (self.mtu + LINK + RTE_PKTMBUF_HEADROOM + 63) // 64 * 64
                raise ConfigError(f"packet_size={pool.packet_size}: too small for frames of {self.name} with mtu={self.mtu}, which "
                                  f"it does not receive in pieces; use packet_size={need} or a smaller MTU")
        return found

    def _set_up(self, int queue, Memory memory):
        cdef rte_eth_rxconf rx = self.info.default_rxconf
        cdef rte_eth_txconf tx = self.info.default_txconf
        place = rte_eth_dev_socket_id(self.id)
        room = memory.pool.packet_size - RTE_PKTMBUF_HEADROOM
        self._check(rte_eth_rx_queue_setup(self.id, queue, self.rx_descriptors, place, &rx, memory.cells.mempool),
                    f"has no receive queue {queue} for packets with room for {room} bytes")
        self._check(rte_eth_tx_queue_setup(self.id, queue, self.tx_descriptors, place, &tx), f"has no transmit queue {queue}")

    def _start(self):
        cdef uint16_t mtu = 0
        rte_eth_dev_get_mtu(self.id, &mtu)
        if self.wanted_mtu is not None and self.wanted_mtu != mtu:
            self._check(rte_eth_dev_set_mtu(self.id, self.wanted_mtu), f"does not take mtu={self.wanted_mtu}")
        self._check(rte_eth_dev_start(self.id), "does not start")
        if self.promiscuous:
            self._check(rte_eth_promiscuous_enable(self.id), "does not become promiscuous, as another station address needs it")
        rte_eth_allmulticast_enable(self.id)       # some cannot, and some need not
        if self.steered:
            self.steered = self._deal()
        self.started = True

    def _deal(self):
        """By the low seven bits of the hash, as `Config.queue` counts."""
        cdef rte_eth_rss_reta_entry64 table[16]
        cdef int i, n = self.info.reta_size
        if n % 64 or not 0 < n <= 1024:
            return False
        for i in range(n):
            table[i // 64].mask = 0xFFFFFFFFFFFFFFFF
            table[i // 64].reta[i % 64] = <uint16_t>((i & 127) % self.queues)
        return rte_eth_dev_rss_reta_update(self.id, table, n) == 0

    def _check(self, int result, what):
        if result < 0:
            raise DriverError(f"dpdk: device {self.name} {what}: {_said(result)}")
        _forget()

    # -- the end ----------------------------------------------------------------------------------------------
    def leave(self):
        """One driver less; the last one closes the device, and then everybody's packets are back."""
        self.users -= 1
        if self.users == 0:
            self._close()

    def _close(self):
        if not self.open:
            return
        self.open = False
        rte_eth_dev_callback_unregister(self.id, RTE_ETH_EVENT_INTR_RMV, _removed, &self.removed)
        if self.started:
            rte_eth_dev_stop(self.id)
        self.started = False
        rte_eth_dev_close(self.id)
        rte_dev_remove(self.info.device)
        for memory in self.memories.values():
            memory.dispose()
        self.memories = {}
        self._drop_inboxes()
        if self.watch is not None:
            self.watch.close()

    def _drop_inboxes(self):
        cdef int i
        for i in range(self.queues):
            rte_ring_free(self.inbox[i])
            self.inbox[i] = NULL
        rte_mempool_free(self.letters)
        self.letters = NULL

    def stats(self):
        """What the device counted."""
        cdef rte_eth_stats found
        memset(&found, 0, sizeof(found))
        if self.open:
            rte_eth_stats_get(self.id, &found)
        return {"rx_dropped": found.imissed, "rx_errors": found.ierrors, "rx_no_buffer": found.rx_nombuf,
                "tx_errors": found.oerrors}

    cdef bint gone(self) noexcept nogil:
        if self.removed or rte_eth_dev_is_removed(self.id):
            return True
        if self.watch is None:
            return False
        with gil:
            return self._vanished()

    def _vanished(self):
        try:
            return not packet_socket.exists(self.watch)
        except Exception:
            return True

    # -- neighbours -------------------------------------------------------------------------------------------
    cdef void tell(self, int queue, const uint8_t* frame, uint32_t n) noexcept nogil:
        """A frame that came to one queue, and that the engines of the others have to see."""
        cdef rte_mbuf* m
        cdef int i
        for i in range(self.queues):
            if i == queue or n > LETTER:
                continue
            m = rte_pktmbuf_alloc(self.letters)
            if m == NULL:
                return
            memcpy(<uint8_t*>m.buf_addr + m.data_off, frame, n)
            m.data_len = <uint16_t>n
            if rte_ring_enqueue(self.inbox[i], m):
                rte_pktmbuf_free(m)

    cdef int hear(self, int queue, Pool* pool, uint32_t* packets, int n) noexcept nogil:
        """What the others told; how many packets."""
        cdef void* item
        cdef rte_mbuf* m
        cdef int count = 0
        while count < n and rte_ring_dequeue(self.inbox[queue], &item) == 0:
            m = <rte_mbuf*>item
            packets[count] = pkt_from_bytes(pool, <uint8_t*>m.buf_addr + m.data_off, m.data_len)
            rte_pktmbuf_free(m)
            if unlikely(packets[count] == NIL):
                break
            count += 1
        return count
