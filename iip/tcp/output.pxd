"""What leaves: retransmissions, new data, ACKs, once per run for every connection that has something to say."""
from iip.tcp.tcb cimport Tcp


cdef void tcp_flush(Tcp* s) noexcept nogil
