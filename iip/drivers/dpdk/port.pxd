"""A port of DPDK: a device with its queues."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from iip.drivers.dpdk.cells cimport Memory
from iip.drivers.dpdk.rte cimport rte_eth_dev_info, rte_mempool, rte_ring
from iip.memory.pool cimport Pool

cdef enum:
    QUEUES = 256


cdef class Port:
    cdef uint16_t id
    cdef rte_eth_dev_info info
    cdef bint open
    cdef bint started             # all its queues have their drivers
    cdef bint removed             # by an event
    cdef bint virtual             # its frames are copied: it reads memory as we do
    cdef object watch             # socket by which we see whether the kernel's device is there
    cdef object memories          # of the queues that have one, by number
    cdef int users
    cdef readonly str device
    cdef readonly str name
    cdef readonly int queues
    cdef readonly int mtu
    cdef readonly bytes mac
    cdef readonly bint steered    # flows are dealt by the symmetric hash
    cdef object offload           # True, False, or capabilities
    cdef bint configured
    cdef int ring
    cdef uint16_t rx_descriptors
    cdef uint16_t tx_descriptors
    cdef object wanted_mtu
    cdef bint promiscuous
    cdef rte_ring* inbox[QUEUES]  # ARP and neighbour discovery for each queue,
    cdef rte_mempool* letters     # and what they lie in
    cdef bint gone(self) noexcept nogil
    cdef void tell(self, int queue, const uint8_t* frame, uint32_t n) noexcept nogil
    cdef int hear(self, int queue, Pool* pool, uint32_t* packets, int n) noexcept nogil
