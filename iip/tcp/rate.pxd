"""Delivery-rate estimation (draft-ietf-ccwg-bbr §4.1): how fast did what this ACK reports arrive?

Only connections with CC_RATE pay for it. Counts of bytes are modulo 2**32.
"""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport Packet
from iip.tcp.tcb cimport AckInfo, Tcb, Tcp


cdef void rate_start(Tcp* s, Tcb* t) noexcept nogil
cdef void rate_sent(Tcp* s, Tcb* t, Packet* k, uint32_t in_flight) noexcept nogil
cdef void rate_delivered(Tcp* s, Tcb* t, Packet* k, uint32_t n, AckInfo* info) noexcept nogil
cdef void rate_sample(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil
cdef void rate_app_limited(Tcb* t) noexcept nogil
