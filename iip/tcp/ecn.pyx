"""Explicit congestion notification: see ecn.pxd."""
from iip.tcp.segment cimport send_control
from iip.tcp.tcb cimport CC_PRECISE_ECN, ECN_ASKED, ECN_ECHO, ECN_OFF, ECN_OK, ECN_ON, TF_ACK_NOW
from iip.verdict cimport count, tcp_ecn_ce
from iip.wire.tcp cimport ECN_MARK, TH_ACK, TH_CWR, TH_ECE

cdef enum:
    SETUP = TH_ECE | TH_CWR


# -- negotiation (RFC 3168 §6.1.1) -----------------------------------------------------------------------------

cdef inline bint _precise(Tcb* t) noexcept nogil:
    return t.cc.mode & CC_PRECISE_ECN != 0


cdef uint8_t ecn_syn_flags(Tcp* s, Tcb* t, bint answer) noexcept nogil:
    """Flags of our SYN. One that got no answer is repeated without: something on the path may drop it (§6.1.1.1)."""
    if answer:
        return TH_ECE if t.ecn & ECN_OK else 0
    t.ecn = 0
    if t.backoff or not (s.conf.ecn == ECN_ON or _precise(t)):
        return 0
    t.ecn = ECN_ASKED
    return SETUP


cdef void ecn_take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The peer's SYN, or its answer to ours."""
    cdef uint8_t says = seg.flags & SETUP
    if seg.flags & TH_ACK:
        t.ecn = ECN_OK if t.ecn & ECN_ASKED and says == TH_ECE else 0
    else:
        t.ecn = ECN_OK if says == SETUP and (s.conf.ecn != ECN_OFF or _precise(t)) else 0


# -- marks -------------------------------------------------------------------------------------------------------

cdef void _state_changes(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8257 §3.2: what came before is acknowledged with the old state, so that the sender can count bytes."""
    if t.rcv_nxt != t.last_ack_sent:
        send_control(s, t, t.snd_nxt, TH_ACK)
    t.ecn ^= ECN_ECHO


cdef void ecn_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """An acceptable segment, before its data is taken. Only data can be marked."""
    cdef bint marked = seg.ecn == ECN_MARK
    if not t.ecn & ECN_OK or seg.len == 0:
        return
    if marked:
        count(s.counters, tcp_ecn_ce)
    if t.cc_mode & CC_PRECISE_ECN:
        if marked != (t.ecn & ECN_ECHO != 0):
            _state_changes(s, t)
        return
    if seg.flags & TH_CWR:
        t.ecn &= ~<uint8_t>ECN_ECHO
    if marked and not t.ecn & ECN_ECHO:
        t.ecn |= ECN_ECHO
        t.flags |= TF_ACK_NOW
