"""Explicit congestion notification: see ecn.pxd."""
from libc.stdint cimport uint8_t
from libc.string cimport memset
from iip.tcp.accecn cimport (
    OPTION_MANGLED, accecn_begin, accecn_feedback, accecn_first_option, accecn_received, accecn_shake)
from iip.tcp.conn cimport conn_route_options, mark_dirty
from iip.tcp.segment cimport send_control
from iip.tcp.tcb cimport *
from iip.verdict cimport count, tcp_ecn_ce, tcp_ecn_mangled
from iip.wire.seq cimport seq_gt
from iip.wire.tcp cimport *

cdef enum:
    SETUP = TH_ECE | TH_CWR       # classic ECN
    SETUP_ACCURATE = SETUP | TH_AE
    MARKS_AT_ONCE = 2             # RFC 9768 §3.2.2.5.1: marks in data that an ACK may wait with,
    MARKS_WITHOUT_DATA = 6        # and in ACKs


# -- negotiation (RFC 3168 §6.1.1, RFC 9768 §3.1) -----------------------------------------------------------------

cdef inline bint _precise(Tcb* t) noexcept nogil:
    return t.cc.mode & CC_PRECISE_ECN != 0


cdef inline bint _takes_accurate(Tcp* s) noexcept nogil:
    return s.conf.ecn >= ECN_ACCURATE_ASK


cdef uint16_t _answer(Tcp* s, Tcb* t) noexcept nogil:
    """Flags of our SYN-ACK. One that got no answer twice is repeated without (RFC 9768 §3.1.4.2)."""
    cdef AccEcn* a
    if not t.ecn & ECN_ACCURATE:
        return TH_ECE if t.ecn & ECN_OK else 0
    a = accecn(s, t)
    if a.answers < 255:
        a.answers += 1
    if t.backoff > 1 or a.plain:
        t.ecn |= ECN_DEAF
        return 0
    return <uint16_t>(accecn_shake(a.syn_field) << ACE_SHIFT)


cdef uint16_t ecn_syn_flags(Tcp* s, Tcb* t, bint answer) noexcept nogil:
    """Flags of our SYN. One that got no answer is repeated without, accurate ECN's once more with: something on the path
    may drop it (RFC 3168 §6.1.1.1, RFC 9768 §3.1.4.1)."""
    if answer:
        return _answer(s, t)
    if s.conf.ecn == ECN_ACCURATE_ASK:
        if t.backoff > 1:
            t.ecn |= ECN_DEAF
            return 0
        t.ecn = ECN_ASKED | ECN_ACCURATE
        return SETUP_ACCURATE
    t.ecn = 0
    if t.backoff or not (s.conf.ecn == ECN_ON or s.conf.ecn == ECN_ACCURATE_ON or _precise(t)):
        return 0
    t.ecn = ECN_ASKED
    return SETUP


cdef bint ecn_syn_option(Tcp* s, Tcb* t) noexcept nogil:
    """Whether our SYN-ACK brings the counters of bytes: only the first does, the option may be what got it lost."""
    return s.conf.ecn_option != ECN_OPTION_OFF and accecn(s, t).answers == 0


cdef void _mangled(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 9768 §3.2.2.3, §3.2.2.4: what we send is not ECN-capable any more; the peer still gets its feedback."""
    count(s.counters, tcp_ecn_mangled)
    t.ecn |= ECN_DEAF


cdef void _first_option(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    if accecn_first_option(s, t, seg) and s.conf.ecn_option != ECN_OPTION_OFF:
        t.ecn |= ECN_OPTION


cdef uint8_t _agreed(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 9768 §3.1.2, table 2: what the answer to our accurate SYN makes of the connection."""
    cdef uint8_t says = (seg.flags >> ACE_SHIFT) & ACE_MASK
    if says == 0 or says == 7:    # not capable, or reflecting what it does not know
        return 0
    if says == 1 or says == 5:
        return 0 if t.ecn & ECN_DEAF else ECN_OK
    return ECN_ACCURATE | ECN_SHAKE | (t.ecn & ECN_DEAF)


cdef void _take_answer(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The SYN-ACK to our SYN."""
    if not t.ecn & ECN_ASKED:
        t.ecn = 0
    elif not t.ecn & ECN_ACCURATE:
        t.ecn = ECN_OK if seg.flags & SETUP == TH_ECE else 0
    else:
        t.ecn = _agreed(s, t, seg)
    if not t.ecn & ECN_ACCURATE:
        return
    accecn_begin(s, t, seg.ecn)
    if (seg.flags >> ACE_SHIFT) & ACE_MASK != accecn_shake(0):
        _mangled(s, t)            # our SYN was not ECN-capable
    if seg.opts & OPT_ACCECN:
        _first_option(s, t, seg)


cdef void ecn_take_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """The peer's SYN, or its answer to ours."""
    cdef uint16_t says = seg.flags & SETUP_ACCURATE
    if seg.flags & TH_ACK:
        _take_answer(s, t, seg)
    elif says != 0 and says != SETUP and _takes_accurate(s):    # RFC 9768 §3.1.3: whatever it means
        t.ecn = ECN_ACCURATE | ECN_SHAKE
        accecn_begin(s, t, seg.ecn)
    else:
        t.ecn = ECN_OK if says & SETUP == SETUP and (s.conf.ecn != ECN_OFF or _precise(t)) else 0
    if t.ecn & ECN_OK:
        memset(accecn(s, t), 0, sizeof(AccEcn))


cdef void ecn_repeated_syn(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """With accurate ECN: the peer's SYN, or SYN-ACK, once more. The answer tells of this one."""
    if seg.flags & TH_ACK:
        if seg.flags & SETUP_ACCURATE:
            t.ecn |= ECN_SHAKE    # RFC 9768 §3.2.2.1
            accecn(s, t).syn_field = seg.ecn
    elif t.state == SYN_RCVD:
        accecn(s, t).plain = seg.flags & SETUP_ACCURATE == 0
        accecn(s, t).syn_field = seg.ecn


# -- marks: classic ECN --------------------------------------------------------------------------------------------

cdef void _state_changes(Tcp* s, Tcb* t) noexcept nogil:
    """RFC 8257 §3.2: what came before is acknowledged with the old state, so that the sender can count bytes."""
    if t.rcv_nxt != t.last_ack_sent:
        send_control(s, t, t.snd_nxt, TH_ACK)
    t.ecn ^= ECN_ECHO


cdef void _classic_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Only data can be marked."""
    cdef bint marked = seg.ecn == ECN_MARK
    if seg.len == 0:
        return
    if marked:
        count(s.counters, tcp_ecn_ce)
        accecn(s, t).received += 1
    if t.cc_mode & CC_PRECISE_ECN:
        if marked != (t.ecn & ECN_ECHO != 0):
            _state_changes(s, t)
        return
    if seg.flags & TH_CWR:
        t.ecn &= ~<uint8_t>ECN_ECHO
    if marked and not t.ecn & ECN_ECHO:
        t.ecn |= ECN_ECHO
        t.flags |= TF_ACK_NOW


# -- marks: accurate ECN -------------------------------------------------------------------------------------------

cdef void _first_segment(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """RFC 9768 §3.2.2.1, §3.2.2.4: the first segment after the peer's SYN. A pure ACK tells how our SYN-ACK arrived, which
    was not ECN-capable; in all others the counter cannot be zero yet."""
    cdef uint8_t ace = (seg.flags >> ACE_SHIFT) & ACE_MASK
    accecn(s, t).heard = True
    if ace == 0:
        _mangled(s, t)
    elif (t.ecn & ECN_SHAKE and t.state == SYN_RCVD and seg.len == 0 and not seg.opts & OPT_SACK
            and (ace == accecn_shake(ECT_1) or ace == accecn_shake(ECT_0) or ace == accecn_shake(ECN_MARK))):
        _mangled(s, t)
    if t.state == SYN_RCVD:
        t.ecn &= ~<uint8_t>ECN_SHAKE


cdef void _tells_without_ack(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """Nothing new is acknowledged, but by its timestamp it is a newer segment: its counters count."""
    cdef AckInfo info
    memset(&info, 0, sizeof(AckInfo))
    info.seg = seg
    accecn_feedback(s, t, &info)


cdef void _accurate_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    cdef AccEcn* a = accecn(s, t)
    cdef bint changed = seg.ecn != a.field
    accecn_received(s, t, seg)
    if seg.opts & OPT_ACCECN and not t.ecn & ECN_OPTION and a.option != OPTION_MANGLED:
        _first_option(s, t, seg)
        conn_route_options(s, t)
    if seg.len and (changed or a.pending >= MARKS_AT_ONCE):     # §3.2.3.3, §3.2.2.5.1
        t.flags |= TF_ACK_NOW
    elif a.pending >= MARKS_WITHOUT_DATA:
        t.flags |= TF_ACK_NOW
        mark_dirty(s, t)
    if not a.heard:
        _first_segment(s, t, seg)
    elif (seg.ack == t.snd_una and not seg.opts & OPT_SACK and t.flags & TF_TS and seg.opts & OPT_TS
            and seq_gt(seg.ts_val, t.ts_recent)):
        _tells_without_ack(s, t, seg)


cdef void ecn_input(Tcp* s, Tcb* t, Segment* seg) noexcept nogil:
    """An acceptable segment, before its ACK and its data are taken."""
    if t.ecn & ECN_ACCURATE:
        _accurate_input(s, t, seg)
    elif t.ecn & ECN_OK:
        _classic_input(s, t, seg)
