"""DCTCP (RFC 8257): the window shrinks by as much as the share of marked data says. For networks whose queues mark early."""
from iip.tcp.tcb cimport CongestionOps

cdef CongestionOps dctcp
