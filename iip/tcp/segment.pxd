"""One segment: the window it offers, its header and options, and its way to the network layer."""
from libc.stdint cimport uint16_t, uint32_t
from iip.net.checksum cimport net_l4_checksum
from iip.net.output cimport net_output
from iip.net.types cimport PROTO_TCP
from iip.tcp.tcb cimport TF_ACK_LATER, TF_ACK_NOW, TIMER_OFF, Tcb, Tcp
from iip.verdict cimport count, ok, tcp_out_segments
from iip.wire.bytes cimport unlikely
from iip.wire.tcp cimport TCP_CSUM_OFF


cdef bint send_segment(Tcp* s, Tcb* t, uint32_t p, uint32_t seq, uint16_t flags) noexcept nogil
cdef bint send_control(Tcp* s, Tcb* t, uint32_t seq, uint16_t flags) noexcept nogil


cdef inline bint hand_down(Tcp* s, Tcb* t, uint32_t p) noexcept nogil:
    """Checksum, network layer, and the notes that an ACK has left."""
    cdef int verdict
    net_l4_checksum(s.net, &t.flow, p, TCP_CSUM_OFF, PROTO_TCP)
    verdict = net_output(s.net, &t.flow, p, PROTO_TCP)
    count(s.counters, tcp_out_segments)
    if unlikely(verdict != ok):
        count(s.counters, verdict)
    t.last_ack_sent = t.rcv_nxt
    t.flags &= ~<uint32_t>(TF_ACK_NOW | TF_ACK_LATER)
    t.t_ack = TIMER_OFF
    t.segs_out += 1
    return True
