"""The network layer: what engine and transport use. The parts are in modules of their own.

`net_input` takes a frame and returns a verdict; `net_output` sends along a `Flow` that `net_route` filled;
`net_timers` does what is due. All of it is per `Net`, nothing is global.
"""
from libc.stdint cimport int64_t, uint32_t
from iip.memory.pool cimport NIL
from iip.net.address cimport net_join, net_leave
from iip.net.arp cimport net_arp_request
from iip.net.checksum cimport net_l4_checksum, net_rx_l4_checksum_ok
from iip.net.icmp cimport net_icmp_error, net_ping
from iip.net.output cimport net_confirm, net_output
from iip.net.route cimport net_pmtu_update, net_route
from iip.net.setup cimport addr_object, addr_of, net_setup, net_teardown
from iip.net.state cimport Net, NetEvent, net_count, net_tx_room
from iip.net.types cimport Addr, Flow, IcmpError, IpRx
from iip.net.udp cimport udp_bind, udp_input, udp_send, udp_unbind

cdef int net_input(Net* net, uint32_t i, IpRx* rx) noexcept nogil
cdef int64_t net_timers(Net* net) noexcept nogil
cdef uint32_t net_loopback_pop(Net* net) noexcept nogil


cdef inline int64_t net_next_deadline(Net* net) noexcept nogil:
    """When `net_timers` has something to do, ns; INT64_MAX: nothing is planned."""
    cdef int64_t first = min(min(net.addr_timer, net.neigh_timer), min(net.mld_timer, net.igmp_timer))
    first = min(first, min(net.change_timer, net.pmtu_timer))
    if net.datagram_oldest != NIL:
        first = min(first, net.datagrams[net.datagram_oldest].expires)
    return first
