"""ARP and neighbour discovery messages that we send."""
from libc.stdint cimport uint8_t, uint16_t
from iip.net.state cimport Net
from iip.net.types cimport Addr

cdef int arp_send(Net* net, uint16_t op, const uint8_t* sender_ip, const uint8_t* dst_mac,
                  const uint8_t* target_ip) noexcept nogil
cdef int nd_solicit(Net* net, const Addr* src, const Addr* target, const uint8_t* dst_mac) noexcept nogil
cdef int nd_advertise(Net* net, const Addr* target, const Addr* dst, const uint8_t* dst_mac,
                      uint8_t flags) noexcept nogil
cdef void solicited_node(Addr* group, const Addr* a) noexcept nogil
cdef int nd_solicit_routers(Net* net) noexcept nogil
