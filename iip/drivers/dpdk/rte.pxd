"""What we use of DPDK's C interface."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "<rte_errno.h>" nogil:
    int rte_errno

cdef extern from "<rte_eal.h>" nogil:
    int rte_eal_init(int argc, char** argv)
    int rte_eal_iova_mode()
    const int RTE_IOVA_VA

cdef extern from "<rte_log.h>" nogil:
    int rte_openlog_stream(void* stream)

cdef extern from "<rte_dev.h>" nogil:
    cdef struct rte_device:
        pass
    cdef struct rte_bus:
        pass
    int rte_dev_probe(const char* devargs)
    int rte_dev_remove(rte_device* device)
    const rte_bus* rte_dev_bus(const rte_device* device)

cdef extern from "<rte_bus.h>" nogil:
    const char* rte_bus_name(const rte_bus* bus)

cdef extern from "<rte_memory.h>" nogil:
    uint64_t rte_mem_virt2iova(const void* address)
    int rte_extmem_register(void* address, size_t n, uint64_t* iovas, unsigned int pages, size_t page_size)
    int rte_extmem_unregister(void* address, size_t n)
    const int SOCKET_ID_ANY

cdef extern from "<rte_mempool.h>" nogil:
    cdef struct rte_mempool:
        void* pool_data
        void* pool_config
    cdef struct rte_mempool_ops:
        char name[32]
        int (*alloc)(rte_mempool*) noexcept nogil
        void (*free)(rte_mempool*) noexcept nogil
        int (*enqueue)(rte_mempool*, void* const*, unsigned int) noexcept nogil
        int (*dequeue)(rte_mempool*, void**, unsigned int) noexcept nogil
        unsigned int (*get_count)(const rte_mempool*) noexcept nogil
    int rte_mempool_register_ops(const rte_mempool_ops* ops)
    rte_mempool* rte_mempool_create_empty(const char* name, unsigned int n, unsigned int size, unsigned int cache,
                                          unsigned int private_size, int socket, unsigned int flags)
    int rte_mempool_set_ops_byname(rte_mempool* pool, const char* name, void* config)
    int rte_mempool_populate_default(rte_mempool* pool)
    void rte_mempool_put(rte_mempool* pool, void* item)
    void rte_mempool_free(rte_mempool* pool)

cdef extern from "<rte_mbuf.h>" nogil:
    cdef struct rte_mbuf_ext_shared_info:
        void (*free_cb)(void*, void*) noexcept nogil
        void* fcb_opaque
    cdef struct rte_mbuf:
        void* buf_addr
        uint64_t buf_iova
        uint16_t data_off
        uint16_t nb_segs
        uint16_t port
        uint64_t ol_flags
        uint32_t pkt_len
        uint16_t data_len
        uint16_t buf_len
        rte_mempool* pool
        rte_mbuf* next
        uint16_t l2_len            # fields of a few bits,
        uint16_t l3_len
        uint16_t l4_len
        uint16_t tso_segsz
        rte_mbuf_ext_shared_info* shinfo
    cdef struct rte_pktmbuf_pool_private:
        uint16_t mbuf_data_room_size
        uint32_t flags
    const int RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF
    const int RTE_PKTMBUF_HEADROOM
    const uint16_t RTE_MBUF_PORT_INVALID
    const uint64_t RTE_MBUF_F_EXTERNAL
    const uint64_t RTE_MBUF_F_RX_IP_CKSUM_MASK
    const uint64_t RTE_MBUF_F_RX_IP_CKSUM_GOOD
    const uint64_t RTE_MBUF_F_RX_L4_CKSUM_MASK
    const uint64_t RTE_MBUF_F_RX_L4_CKSUM_GOOD
    const uint64_t RTE_MBUF_F_RX_LRO
    const uint64_t RTE_MBUF_F_TX_IPV4
    const uint64_t RTE_MBUF_F_TX_IPV6
    const uint64_t RTE_MBUF_F_TX_IP_CKSUM
    const uint64_t RTE_MBUF_F_TX_TCP_CKSUM
    const uint64_t RTE_MBUF_F_TX_UDP_CKSUM
    const uint64_t RTE_MBUF_F_TX_TCP_SEG
    void rte_pktmbuf_pool_init(rte_mempool* pool, void* settings)
    rte_mempool* rte_pktmbuf_pool_create(const char* name, unsigned int n, unsigned int cache, uint16_t private_size,
                                         uint16_t room, int socket)
    int rte_pktmbuf_alloc_bulk(rte_mempool* pool, rte_mbuf** mbufs, unsigned int n)
    rte_mbuf* rte_pktmbuf_alloc(rte_mempool* pool)
    void rte_pktmbuf_free(rte_mbuf* mbuf)
    void rte_pktmbuf_attach_extbuf(rte_mbuf* mbuf, void* buffer, uint64_t iova, uint16_t n, rte_mbuf_ext_shared_info* shared)
    void rte_mbuf_ext_refcnt_set(rte_mbuf_ext_shared_info* shared, uint16_t n)
    void rte_mbuf_refcnt_set(rte_mbuf* mbuf, uint16_t n)
    void rte_mbuf_iova_set(rte_mbuf* mbuf, uint64_t iova)
    const void* rte_pktmbuf_read(const rte_mbuf* mbuf, uint32_t off, uint32_t n, void* buffer)

cdef extern from "<rte_ring.h>" nogil:
    cdef struct rte_ring:
        pass
    rte_ring* rte_ring_create(const char* name, unsigned int n, int socket, unsigned int flags)
    void rte_ring_free(rte_ring* ring)
    int rte_ring_enqueue(rte_ring* ring, void* item)
    int rte_ring_dequeue(rte_ring* ring, void** item)

cdef extern from "<rte_ethdev.h>" nogil:
    cdef struct rte_ether_addr:
        uint8_t addr_bytes[6]
    cdef struct rte_eth_desc_lim:
        uint16_t nb_seg_max
    cdef struct rte_eth_rxconf:
        uint64_t offloads
    cdef struct rte_eth_txconf:
        uint64_t offloads
    cdef struct rte_eth_dev_info:
        rte_device* device
        const char* driver_name
        unsigned int if_index
        uint16_t min_mtu
        uint16_t max_mtu
        uint32_t max_rx_pktlen
        uint32_t max_lro_pkt_size
        uint16_t max_rx_queues
        uint16_t max_tx_queues
        uint64_t rx_offload_capa
        uint64_t tx_offload_capa
        uint16_t reta_size
        uint8_t hash_key_size
        uint64_t flow_type_rss_offloads
        rte_eth_rxconf default_rxconf
        rte_eth_txconf default_txconf
        rte_eth_desc_lim tx_desc_lim
    cdef enum rte_eth_rx_mq_mode:
        RTE_ETH_MQ_RX_RSS
    cdef struct rte_eth_rxmode:
        rte_eth_rx_mq_mode mq_mode
        uint32_t mtu
        uint32_t max_lro_pkt_size
        uint64_t offloads
    cdef struct rte_eth_txmode:
        uint64_t offloads
    cdef struct rte_eth_rss_conf:
        uint8_t* rss_key
        uint8_t rss_key_len
        uint64_t rss_hf
    cdef struct Advanced "":
        rte_eth_rss_conf rss_conf
    cdef struct rte_eth_conf:
        rte_eth_rxmode rxmode
        rte_eth_txmode txmode
        Advanced rx_adv_conf
    cdef struct rte_eth_rss_reta_entry64:
        uint64_t mask
        uint16_t reta[64]
    cdef struct rte_eth_stats:
        uint64_t imissed
        uint64_t ierrors
        uint64_t oerrors
        uint64_t rx_nombuf
    cdef enum rte_eth_event_type:
        RTE_ETH_EVENT_INTR_RMV
    const uint64_t RTE_ETH_RX_OFFLOAD_IPV4_CKSUM
    const uint64_t RTE_ETH_RX_OFFLOAD_TCP_CKSUM
    const uint64_t RTE_ETH_RX_OFFLOAD_UDP_CKSUM
    const uint64_t RTE_ETH_RX_OFFLOAD_TCP_LRO
    const uint64_t RTE_ETH_RX_OFFLOAD_SCATTER
    const uint64_t RTE_ETH_TX_OFFLOAD_MULTI_SEGS
    const uint64_t RTE_ETH_TX_OFFLOAD_IPV4_CKSUM
    const uint64_t RTE_ETH_TX_OFFLOAD_TCP_CKSUM
    const uint64_t RTE_ETH_TX_OFFLOAD_UDP_CKSUM
    const uint64_t RTE_ETH_TX_OFFLOAD_TCP_TSO
    const uint64_t RTE_ETH_RSS_IPV4
    const uint64_t RTE_ETH_RSS_IPV6
    const uint64_t RTE_ETH_RSS_NONFRAG_IPV4_TCP
    const uint64_t RTE_ETH_RSS_NONFRAG_IPV4_UDP
    const uint64_t RTE_ETH_RSS_NONFRAG_IPV6_TCP
    const uint64_t RTE_ETH_RSS_NONFRAG_IPV6_UDP
    int rte_eth_dev_get_port_by_name(const char* name, uint16_t* port)
    int rte_eth_dev_info_get(uint16_t port, rte_eth_dev_info* info)
    int rte_eth_dev_get_mtu(uint16_t port, uint16_t* mtu)
    int rte_eth_dev_set_mtu(uint16_t port, uint16_t mtu)
    int rte_eth_macaddr_get(uint16_t port, rte_ether_addr* mac)
    int rte_eth_dev_socket_id(uint16_t port)
    int rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx, const rte_eth_conf* settings)
    int rte_eth_dev_adjust_nb_rx_tx_desc(uint16_t port, uint16_t* rx, uint16_t* tx)
    int rte_eth_rx_queue_setup(uint16_t port, uint16_t queue, uint16_t n, unsigned int socket, const rte_eth_rxconf* settings,
                               rte_mempool* pool)
    int rte_eth_tx_queue_setup(uint16_t port, uint16_t queue, uint16_t n, unsigned int socket, const rte_eth_txconf* settings)
    int rte_eth_dev_rss_reta_update(uint16_t port, rte_eth_rss_reta_entry64* table, uint16_t n)
    int rte_eth_promiscuous_enable(uint16_t port)
    int rte_eth_allmulticast_enable(uint16_t port)
    int rte_eth_dev_start(uint16_t port)
    int rte_eth_dev_stop(uint16_t port)
    int rte_eth_dev_close(uint16_t port)
    int rte_eth_dev_is_removed(uint16_t port)
    int rte_eth_stats_get(uint16_t port, rte_eth_stats* stats)
    int rte_eth_dev_callback_register(uint16_t port, rte_eth_event_type event,
                                      int (*callback)(uint16_t, rte_eth_event_type, void*, void*) noexcept nogil, void* argument)
    int rte_eth_dev_callback_unregister(uint16_t port, rte_eth_event_type event,
                                        int (*callback)(uint16_t, rte_eth_event_type, void*, void*) noexcept nogil, void* argument)
    uint16_t rte_eth_rx_burst(uint16_t port, uint16_t queue, rte_mbuf** mbufs, uint16_t n)
    uint16_t rte_eth_tx_prepare(uint16_t port, uint16_t queue, rte_mbuf** mbufs, uint16_t n)
    uint16_t rte_eth_tx_burst(uint16_t port, uint16_t queue, rte_mbuf** mbufs, uint16_t n)
    int rte_eth_tx_done_cleanup(uint16_t port, uint16_t queue, uint32_t n)
