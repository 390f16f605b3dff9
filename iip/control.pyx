"""Congestion control written in Python: the class for experiments, and the table of functions that calls it."""
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.tcp.congestion cimport congestion_find, congestion_objects, congestion_switch
from iip.tcp.newreno cimport newreno_on_loss
from iip.tcp.pacing cimport pacing_set
from iip.tcp.rate cimport rate_start
from iip.tcp.tcb cimport (
    CC_MODEL, CC_OBJECT, CC_PACED, TF_LOSS, TF_RECOVERY, AckInfo, CongestionOps, Tcp, tcp_in_flight)
from iip.tcp.window cimport MAX_CWND, slow_start, window_is_used

from iip.errors import ConfigError, ConnectionGone
from iip.events import AckSample


cdef class CongestionControl:
    """Base of algorithms written in Python: override what you need. As it is, it does what NewReno does.

    `Config(congestion=MyControl)` makes one for each connection, `conn.congestion = MyControl()` is for one. Its methods
    run in the middle of the protocol: they look at the connection and set `cwnd`, `ssthresh` and `pacing_rate`, and call
    nothing else of the engine. Windows are bytes, times seconds, rates bytes per second.
    """

    measures = False
    """True: `AckSample.delivery_rate` is measured."""
    paces = False
    """True: segments leave at `pacing_rate`; without setting it, at a rate that follows the window."""
    models = False
    """True: `cwnd` and `pacing_rate` are set by nobody else, not in recovery either."""

    def init(self):
        """The connection is established; `cwnd` is the initial window."""

    def on_ack(self, ack):
        """An ACK (`iip.AckSample`). Leave `cwnd` alone when `ack.recovery` is True, unless `models`."""
        cdef Tcb* t = self.tcb()
        cdef uint32_t acked = ack.acked
        if ack.recovery or not window_is_used(t):
            return
        if t.cwnd < t.ssthresh:
            acked = slow_start(t, acked)
        if acked:
            t.cwnd = min(t.cwnd + max(<uint32_t>1, <uint32_t>(<uint64_t>acked * t.mss // t.cwnd)), <uint32_t>MAX_CWND)

    def on_loss(self, in_flight):
        """Segments were lost, by fast retransmit or timeout. Returns the new `ssthresh`, which becomes `cwnd`."""
        return max(in_flight // 2, 2 * self.mss)

    def on_timeout(self):
        """A retransmission timeout, after `on_loss`. `cwnd` is one segment."""

    def on_undo(self):
        """The loss was none; `cwnd` and `ssthresh` are what they were."""

    def on_ecn(self, in_flight):
        """The path marked segments (ECN). Returns the new `ssthresh`, which becomes `cwnd`."""
        return self.on_loss(in_flight)

    def on_idle(self, idle):
        """Sending begins again after `idle` seconds with nothing in flight."""

    # -- the connection --------------------------------------------------------------------------------------

    cdef Tcb* tcb(self) except NULL:
        if self.t == NULL:
            raise ConnectionGone("this congestion control has no connection (any more)")
        return self.t

    @property
    def now(self):
        """The time of this run."""
        self.tcb()
        return self.engine.tcp.now / 1e9

    @property
    def cwnd(self):
        """Congestion window."""
        return self.tcb().cwnd

    @cwnd.setter
    def cwnd(self, n):
        cdef Tcb* t = self.tcb()
        t.cwnd = max(t.mss, min(int(n), MAX_CWND))

    @property
    def ssthresh(self):
        """Where slow start ends."""
        return self.tcb().ssthresh

    @ssthresh.setter
    def ssthresh(self, n):
        cdef Tcb* t = self.tcb()
        t.ssthresh = max(2 * t.mss, min(int(n), 0x7FFFFFFF))

    @property
    def pacing_rate(self):
        """Rate at which segments leave; 0: as fast as it goes."""
        return self.tcb().pacing_rate

    @pacing_rate.setter
    def pacing_rate(self, rate):
        pacing_set(self.engine.tcp, self.tcb(), max(0, min(int(rate), 1 << 40)))

    @property
    def mss(self):
        """Payload bytes of a full segment."""
        return self.tcb().mss

    @property
    def in_flight(self):
        """Bytes thought to be in the network."""
        return tcp_in_flight(self.tcb())

    @property
    def srtt(self):
        """Smoothed round-trip time; 0: not measured."""
        return self.tcb().srtt / 1e9

    @property
    def min_rtt(self):
        """Shortest round trip; 0: not measured."""
        return self.tcb().min_rtt / 1e9

    @property
    def window_used(self):
        """Whether the window limits the sender: only then it may grow (RFC 7661)."""
        return bool(window_is_used(self.tcb()))

    @property
    def recovering(self):
        """Whether lost segments are being repaired."""
        return bool(self.tcb().flags & (TF_RECOVERY | TF_LOSS))


# -- the table of functions ------------------------------------------------------------------------------------

cdef CongestionOps ops


cdef inline CongestionControl _control(Tcb* t):
    return <CongestionControl><void*>t.cc_state[0]


cdef void _failed(Tcp* s, object error):
    """As an exception of a handler: it comes out of `run` when the pass is over."""
    cdef Engine engine = <Engine>s.engine
    if engine.error is None:
        engine.error = error


cdef void _attach(Tcp* s, Tcb* t, CongestionControl control):
    control.engine = <Engine>s.engine
    control.t = t
    if control.measures or control.models:
        rate_start(s, t)
    if control.paces:
        t.cc_mode |= CC_PACED
    if control.models:
        t.cc_mode |= CC_MODEL
        t.ssthresh = 0x7FFFFFFF
    control.init()


cdef void _init_object(Tcp* s, Tcb* t) noexcept:
    try:
        if t.cc_state[0] == 0:
            control = (<Engine>s.engine).config.congestion()
            Py_INCREF(control)
            t.cc_state[0] = <uint64_t><void*>control
        _attach(s, t, _control(t))
    except BaseException as error:
        _failed(s, error)


cdef void _init(Tcp* s, Tcb* t) noexcept nogil:
    with gil:
        _init_object(s, t)


cdef object _sample(AckInfo* a):
    cdef object rate = a.sampled * 1e9 / a.interval if a.interval > 0 else None
    return AckSample(a.acked, a.delivered, a.in_flight, a.lost, a.rtt / 1e9 if a.rtt >= 0 else None, bool(a.recovery),
                     bool(a.ece), rate, bool(a.app_limited) if rate is not None else None)


cdef void _tell_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept:
    cdef CongestionControl control
    if t.cc_state[0] == 0:
        return
    try:
        control = _control(t)
        control.on_ack(_sample(ack))
    except BaseException as error:
        _failed(s, error)


cdef void _on_ack(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil:
    with gil:
        _tell_ack(s, t, ack)


cdef uint32_t _ask(Tcp* s, Tcb* t, uint32_t in_flight, bint ecn) noexcept:
    """A new threshold. What is no number of bytes is an error of the algorithm; NewReno answers for it."""
    cdef CongestionControl control
    try:
        if t.cc_state[0]:
            control = _control(t)
            window = int(control.on_ecn(in_flight) if ecn else control.on_loss(in_flight))
            return max(2 * t.mss, min(window, MAX_CWND))
    except BaseException as error:
        _failed(s, error)
    return newreno_on_loss(s, t, in_flight)


cdef uint32_t _on_loss(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    with gil:
        return _ask(s, t, in_flight, False)


cdef uint32_t _on_ecn(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil:
    with gil:
        return _ask(s, t, in_flight, True)


cdef void _tell(Tcp* s, Tcb* t, str event, tuple arguments) noexcept:
    cdef CongestionControl control
    if t.cc_state[0] == 0:
        return
    try:
        control = _control(t)
        getattr(control, event)(*arguments)
    except BaseException as error:
        _failed(s, error)


cdef void _on_timeout(Tcp* s, Tcb* t) noexcept nogil:
    with gil:
        _tell(s, t, "on_timeout", ())


cdef void _on_undo(Tcp* s, Tcb* t) noexcept nogil:
    with gil:
        _tell(s, t, "on_undo", ())


cdef void _on_idle(Tcp* s, Tcb* t, int64_t idle) noexcept nogil:
    with gil:
        _tell(s, t, "on_idle", (idle / 1e9,))


cdef void _let_go(Tcb* t) noexcept:
    cdef CongestionControl control = _control(t)
    t.cc_state[0] = 0
    control.t = NULL
    Py_DECREF(control)


cdef void _release(Tcp* s, Tcb* t) noexcept nogil:
    if t.cc_state[0]:
        with gil:
            _let_go(t)


ops.name = b"python"
ops.mode = CC_OBJECT
ops.init = _init
ops.on_ack = _on_ack
ops.on_loss = _on_loss
ops.on_timeout = _on_timeout
ops.on_undo = _on_undo
ops.on_ecn = _on_ecn
ops.on_idle = _on_idle
ops.release = _release
congestion_objects(&ops)


# -- for Connection ----------------------------------------------------------------------------------------------

cdef object congestion_get(Tcb* t):
    if t.cc != &ops:
        return t.cc.name.decode()
    return _control(t) if t.cc_state[0] else None


cdef int congestion_set(Engine engine, Tcb* t, object algorithm) except -1:
    cdef CongestionControl control
    cdef const CongestionOps* found
    if isinstance(algorithm, type) and issubclass(algorithm, CongestionControl):
        algorithm = algorithm()
    if not isinstance(algorithm, CongestionControl):
        found = congestion_find(algorithm)
        congestion_switch(engine.tcp, t, found, NULL)
        return 0
    control = algorithm
    if control.t != NULL:
        raise ConfigError("congestion: this object controls a connection already; make one for each")
    Py_INCREF(control)
    congestion_switch(engine.tcp, t, &ops, <void*>control)
    return 0
