"""What is known about one connection, by the names of Linux's tcp_info."""
from iip.tcp.tcb cimport Tcb, Tcp


cdef dict tcp_info(Tcp* s, Tcb* t)
