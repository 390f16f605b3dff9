"""Set-up and tear-down of the TCP part of a stack: the only place that allocates."""
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from iip.memory.order cimport order_fini, order_init
from iip.memory.pool cimport NIL
from iip.memory.raw cimport CACHE_LINE, free_lines, zalloc_lines
from iip.memory.sizes cimport power_of_two
from iip.memory.slab cimport slab_fini, slab_init
from iip.tcp.congestion cimport congestion_find
from iip.tcp.limits cimport TallyEntry
from iip.tcp.tcb cimport (
    EXTRA, EXTRA_ECN, FASTOPEN_CLIENT, HOT_LINES, PORT_COUNTERS, TCB_STRIDE, WHEEL_TICK_SHIFT, AccEcn, DemuxEntry,
    FastOpenEntry, Tcb, TcpConf)
from iip.tcp.wheel cimport wheel_init
from iip.wire.rng cimport rng_below, rng_seed, splitmix64


_MTU_PROBING = {"off": 0, "blackhole": 1, "always": 2}
_ECN = ("off", "passive", "on", "accurate", "accurate-on", "accurate-passive")       # as ECN_OFF and the following
_ECN_OPTION = ("off", "needed", "always")


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
    c.send_buffer_max = max(c.send_buffer, config.send_buffer_max) if config.autotune else c.send_buffer
    c.receive_buffer_max = max(c.receive_buffer, config.receive_buffer_max) if config.autotune else c.receive_buffer
    c.delayed_ack_max = max(c.delayed_ack, _ns(config.delayed_ack_max))
    c.quick_acks = config.quick_acks
    c.lowat = config.unsent_low
    c.mtu_probing = _MTU_PROBING[config.mtu_probing]
    c.mtu_base = config.mtu_probing_base
    c.mtu_interval = _ns(config.mtu_probing_interval)
    c.strict_timestamps = config.strict_timestamps
    c.max_ooo = config.out_of_order
    c.max_half_open = config.max_half_open
    c.half_open_per_port = config.half_open_per_port
    c.half_open_per_peer = config.half_open_per_peer
    c.connections_per_peer = config.connections_per_peer
    c.syn_cookies = ("off", "auto", "always").index(config.syn_cookies)
    c.rst_rate = config.rst_rate
    c.challenge_rate = config.challenge_rate
    c.persist_timeout = _ns(config.persist_timeout)
    c.fastopen = ("off", "client", "server", "both").index(config.fastopen)
    c.fastopen_pending = config.fastopen_pending
    c.mss = config.mss
    c.initial_window = config.initial_window
    c.copy_threshold = config.copy_threshold
    c.tso = config.tso
    c.max_pinned = config.max_pinned
    c.port_low, c.port_high = config.ports
    c.queue, c.queues = config.queue, config.queues
    c.window_scale = config.window_scale
    c.sack = config.sack
    c.dsack = config.dsack
    c.bsd_options = config.option_order == "bsd"
    c.idle_restart = config.idle_restart
    c.timestamps = config.timestamps
    c.nagle = config.nagle
    c.pacing = config.pacing
    c.max_pacing_rate = config.max_pacing_rate
    c.ecn = _ECN.index(config.ecn)
    c.ecn_option = _ECN_OPTION.index(config.ecn_option)
    c.cc = congestion_find(config.congestion)
    return 0


cdef int _tables(Tcp* s, object config) except -1:
    """Tables that only some settings need."""
    cdef uint32_t size
    if config.connections_per_peer or config.half_open_per_peer or config.half_open_per_port:
        size = power_of_two(max(16, 4 * <uint32_t>config.max_connections))
        s.tally_mask = size - 1
        s.tally = <TallyEntry*>calloc(size, sizeof(TallyEntry))
        if s.tally == NULL:
            raise MemoryError(f"no memory to count the connections of max_connections={config.max_connections} by peer")
    if s.conf.fastopen & FASTOPEN_CLIENT:
        size = power_of_two(max(16, <uint32_t>config.fastopen_cache))
        s.fastopen_mask = size - 1
        s.fastopen_cache = <FastOpenEntry*>calloc(size, sizeof(FastOpenEntry))
        if s.fastopen_cache == NULL:
            raise MemoryError(f"no memory for fastopen_cache={config.fastopen_cache}")
    return 0


cdef int tcp_setup(Tcp* s, object config, Net* net, Slab* slab, uint64_t seed) except -1:
    """Everything a stack's TCP will ever need. `slab` is initialised here. Raises ConfigError, MemoryError."""
    cdef uint32_t size = power_of_two(max(16, 2 * <uint32_t>config.max_connections))
    cdef int i
    if sizeof(Tcb) > TCB_STRIDE:
        raise SystemError(f"a connection takes {sizeof(Tcb)} bytes, more than TCB_STRIDE")
    if <size_t>&(<Tcb*>NULL).wheel_next != HOT_LINES * CACHE_LINE:
        raise SystemError(f"the hot part of a connection takes {<size_t>&(<Tcb*>NULL).wheel_next} bytes")
    if EXTRA_ECN + sizeof(AccEcn) > EXTRA:
        raise SystemError(f"{sizeof(AccEcn)} bytes of AccEcn do not fit into EXTRA")
    memset(s, 0, sizeof(Tcp))
    tcp_configure(&s.conf, config)
    s.net = net
    s.pool = net.pool
    s.counters = net.counters
    s.dirty_head = s.dirty_tail = s.ready_head = s.ready_tail = s.tw_head = s.tw_tail = NIL
    s.ooo_head = s.ooo_tail = NIL
    s.max_ooo = max(net.pool.n_direct // 4, <uint32_t>1)
    if slab_init(slab, config.max_connections, TCB_STRIDE) < 0:
        raise MemoryError(f"no memory for max_connections={config.max_connections}")
    s.tcbs = slab
    s.tcb_base = slab.objects
    s.table = <DemuxEntry*>zalloc_lines(size, sizeof(DemuxEntry))
    s.extra = <uint8_t*>calloc(config.max_connections, EXTRA)
    if s.table == NULL or s.extra == NULL or not (order_init(&s.flight) and order_init(&s.held)):
        tcp_teardown(s)
        raise MemoryError(f"no memory for the table of max_connections={config.max_connections}")
    s.table_mask = size - 1
    for i in range(4):
        s.hash_key[i] = splitmix64(&seed)
    for i in range(2):
        s.isn_key[i] = splitmix64(&seed)
        s.ts_key[i] = splitmix64(&seed)
        s.port_key[i] = splitmix64(&seed)
    for i in range(2):
        s.cookie_key[i] = splitmix64(&seed)
        s.fastopen_key[i] = splitmix64(&seed)
    rng_seed(&s.rng, splitmix64(&seed))
    for i in range(PORT_COUNTERS):
        s.port_counters[i] = rng_below(&s.rng, 65536)
    wheel_init(s)
    try:
        _tables(s, config)
    except MemoryError:
        tcp_teardown(s)
        raise
    return 0


cdef void tcp_teardown(Tcp* s):
    free_lines(s.table)
    free(s.extra)
    order_fini(&s.flight)
    order_fini(&s.held)
    free(s.tally)
    free(s.fastopen_cache)
    s.table = NULL
    s.extra = NULL
    s.tally = NULL
    s.fastopen_cache = NULL
    if s.tcbs != NULL:
        slab_fini(s.tcbs)


cdef void tcp_clock(Tcp* s, long long now) noexcept nogil:
    """The time of this run, ns."""
    if s.now == 0 and s.wheel.n == 0:
        s.wheel.tick = <uint64_t>now >> WHEEL_TICK_SHIFT
    s.now = now
    s.ts_now = <uint32_t>(<uint64_t>now // 1000000)
