"""BBR, version 3 (draft-ietf-ccwg-bbr): a model of the path, its bandwidth and its round trip, instead of a window that
grows until something is lost."""
from iip.tcp.tcb cimport CongestionOps

cdef CongestionOps bbr
