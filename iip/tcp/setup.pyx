"""Set-up and tear-down of the TCP part of a stack: the only place that allocates."""
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from iip.memory.pool cimport NIL
from iip.memory.slab cimport slab_fini, slab_init
from iip.tcp.congestion cimport congestion_find
from iip.tcp.tcb cimport TCB_STRIDE, WHEEL_TICK_SHIFT, DemuxEntry, Tcb, TcpConf
from iip.tcp.wheel cimport wheel_init
from iip.wire.rng cimport splitmix64


cdef int64_t _ns(seconds):
    return <int64_t>round(seconds * 1_000_000_000)


cdef int tcp_configure(TcpConf* c, object config) except -1:
    """Take the settings over; at a running stack connections that exist keep their buffers."""
    c.rto_min = _ns(config.rto_min)
    c.rto_max = _ns(config.rto_max)
    c.rto_initial = _ns(config.rto_initial)
    c.delayed_ack = _ns(config.delayed_ack)
    c.time_wait = _ns(config.time_wait)
    c.fin_wait2 = _ns(config.fin_wait2)
    c.keepalive = _ns(config.keepalive)
    c.keepalive_interval = _ns(config.keepalive_interval)
    c.user_timeout = _ns(config.user_timeout)
    c.keepalive_probes = config.keepalive_probes
    c.syn_retries = config.syn_retries
    c.synack_retries = config.synack_retries
    c.retries = config.retries
    c.send_buffer = config.send_buffer
    c.receive_buffer = config.receive_buffer
    c.max_ooo = config.out_of_order
    c.max_half_open = config.max_half_open
    c.mss = config.mss
    c.initial_window = config.initial_window
    c.copy_threshold = config.copy_threshold
    c.tso = config.tso
    c.port_low, c.port_high = config.ports
    c.window_scale = config.window_scale
    c.sack = config.sack
    c.timestamps = config.timestamps
    c.nagle = config.nagle
    c.cc = congestion_find(config.congestion)
    return 0


cdef int tcp_setup(Tcp* s, object config, Net* net, Slab* slab, uint64_t seed) except -1:
    """Everything a stack's TCP will ever need. `slab` is initialised here. Raises ConfigError, MemoryError."""
    cdef uint32_t size = 16
    cdef int i
    if sizeof(Tcb) > TCB_STRIDE:
        raise SystemError(f"a connection takes {sizeof(Tcb)} bytes, more than TCB_STRIDE")
    memset(s, 0, sizeof(Tcp))
    tcp_configure(&s.conf, config)
    s.net = net
    s.pool = net.pool
    s.counters = net.counters
    s.dirty_head = s.dirty_tail = s.ready_head = s.ready_tail = s.tw_head = s.tw_tail = NIL
    if slab_init(slab, config.max_connections, TCB_STRIDE) < 0:
        raise MemoryError(f"no memory for max_connections={config.max_connections}")
    s.tcbs = slab
    s.tcb_base = slab.objects
    while size < 2 * config.max_connections:
        size *= 2
    s.table = <DemuxEntry*>calloc(size, sizeof(DemuxEntry))
    if s.table == NULL:
        slab_fini(slab)
        raise MemoryError(f"no memory for the table of max_connections={config.max_connections}")
    s.table_mask = size - 1
    for i in range(4):
        s.hash_key[i] = splitmix64(&seed)
    for i in range(2):
        s.isn_key[i] = splitmix64(&seed)
        s.ts_key[i] = splitmix64(&seed)
        s.port_key[i] = splitmix64(&seed)
    wheel_init(s)
    return 0


cdef void tcp_teardown(Tcp* s):
    free(s.table)
    s.table = NULL
    if s.tcbs != NULL:
        slab_fini(s.tcbs)


cdef void tcp_clock(Tcp* s, long long now) noexcept nogil:
    """The time of this run, ns."""
    if s.now == 0 and s.wheel.n == 0:
        s.wheel.tick = <uint64_t>now >> WHEEL_TICK_SHIFT
    s.now = now
    s.ts_now = <uint32_t>(<uint64_t>now // 1000000)
