"""What happens when nothing arrives: retransmission, probes, delayed ACKs, keepalive, TIME-WAIT."""
from iip.tcp.tcb cimport Tcp


cdef void tcp_timers(Tcp* s) noexcept nogil
