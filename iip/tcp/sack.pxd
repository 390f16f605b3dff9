"""SACK blocks that arrive (RFC 2018 §5, RFC 2883)."""
from iip.tcp.scoreboard cimport AckInfo
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef void sack_update(Tcp* s, Tcb* t, Segment* seg, AckInfo* info) noexcept nogil
