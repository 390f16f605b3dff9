"""A snapshot of connections, for users and tests."""
from iip.tcp.tcb cimport Tcp


cdef object tcp_snapshot(Tcp* s)
