"""What arrives: RFC 9293 §3.10.7, step by step."""
from iip.net.types cimport IcmpError, IpRx
from iip.tcp.tcb cimport Tcp


cdef int tcp_input(Tcp* s, IpRx* rx) noexcept nogil
cdef void tcp_icmp(Tcp* s, IcmpError* e) noexcept nogil
