"""Segments that begin a connection, and those that end one at once."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from iip.net.types cimport Flow, IpRx
from iip.tcp.tcb cimport Tcb, Tcp
from iip.wire.tcp cimport Segment


cdef struct SynOptions:
    # what a SYN or SYN-ACK of ours offers
    uint32_t mss
    bint ts
    bint sack
    bint scale
    uint8_t wscale
    bint fastopen                 # with a cookie, or a request for one if it has no bytes
    bint fastopen_exp             # in the experimental form
    uint8_t n_cookie
    uint8_t cookie[16]
    uint32_t ts_val
    uint32_t ts_ecr
    bint accecn                   # counters of accurate ECN, which all have their first values
    bint bsd                      # in the order of 4.4BSD's descendants


cdef void take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil
cdef uint32_t offered_mss(Tcp* s, Flow* flow) noexcept nogil
cdef uint32_t write_options(uint8_t* p, SynOptions* o) noexcept nogil
cdef bint send_syn(Tcp* s, Tcb* t) noexcept nogil
cdef bint send_rst(Tcp* s, Tcb* t) noexcept nogil
cdef uint32_t reply_begin(Tcp* s, IpRx* rx, Flow* flow) noexcept nogil
cdef void reply_send(Tcp* s, Flow* flow, uint32_t p) noexcept nogil
cdef void tcp_send_rst_for(Tcp* s, IpRx* rx, Segment* seg) noexcept nogil
