"""NewReno (RFC 5681, with appropriate byte counting after RFC 3465)."""
from libc.stdint cimport uint32_t
from iip.tcp.tcb cimport AckInfo, CongestionOps, Tcb, Tcp

cdef CongestionOps newreno

cdef void newreno_on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil
cdef uint32_t newreno_on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil
