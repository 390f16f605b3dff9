"""Accurate ECN (RFC 9768): the counters, the flags and the option that carry them, and what the peer's tell. Negotiation and
what arrives is in `ecn`."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.tcp.tcb cimport AckInfo, Tcb, Tcp
from iip.wire.tcp cimport Segment

cdef enum:
    CEP_INIT = 5                  # §3.2.1: the counter of packets begins there
    # §3.2.3: order of the counters of bytes, as in the option of kind 174
    BYTES_ECT_1 = 0
    BYTES_CE = 1
    BYTES_ECT_0 = 2
    # AccEcn.option
    OPTION_GOOD = 1
    OPTION_MANGLED = 2


cdef void accecn_begin(Tcp* s, Tcb* t, uint8_t field) noexcept nogil
cdef uint8_t accecn_shake(uint8_t field) noexcept nogil
cdef void accecn_received(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef uint16_t accecn_flags(Tcp* s, Tcb* t, bint pure) noexcept nogil
cdef uint32_t accecn_option(Tcp* s, Tcb* t, uint8_t* p, uint32_t room, int* blocks) noexcept nogil
cdef bint accecn_first_option(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef uint32_t accecn_records(Tcp* s, Tcb* t, uint32_t ack) noexcept nogil
cdef void accecn_feedback(Tcp* s, Tcb* t, AckInfo* info) noexcept nogil
