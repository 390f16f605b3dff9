"""The transmission control block: everything a connection is, and what all connections of a stack share."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.memory.order cimport Order
from iip.memory.pool cimport NIL, Packet, Pool
from iip.memory.slab cimport Slab
from iip.net.state cimport Net
from iip.net.types cimport Flow
from iip.tcp.limits cimport RateLimit, TallyEntry
from iip.wire.rng cimport Rng
from iip.wire.tcp cimport SackBlock, Segment

cdef enum TcpState:
    CLOSED = 0
    LISTEN
    SYN_SENT
    SYN_RCVD
    ESTABLISHED
    FIN_WAIT_1
    FIN_WAIT_2
    CLOSE_WAIT
    CLOSING
    LAST_ACK
    TIME_WAIT

cdef enum:
    # Tcb.flags
    TF_ACK_NOW = 0x00000001       # owe an ACK, in this run
    TF_ACK_LATER = 0x00000002     # owe an ACK, the delayed-ACK timer's
    TF_TS = 0x00000004            # negotiated (RFC 7323)
    TF_WSCALE = 0x00000008
    TF_SACK = 0x00000010          # negotiated (RFC 2018)
    TF_NODELAY = 0x00000020       # no Nagle
    TF_FIN_WANTED = 0x00000040    # the application is done sending
    TF_FIN_SENT = 0x00000080      # FIN has its sequence number
    TF_FIN_ACKED = 0x00000100
    TF_FIN_RCVD = 0x00000200
    TF_DIRTY = 0x00000400         # on the list of connections to flush
    TF_READY = 0x00000800         # on the list of connections with events
    TF_PASSIVE = 0x00001000
    TF_ORPHAN = 0x00002000        # the application closed: no more payload for it
    TF_ASKED = 0x00004000         # half open: the application has accepted
    TF_RECOVERY = 0x00008000      # fast recovery (RFC 6582)
    TF_LOSS = 0x00010000          # recovery after a timeout
    TF_SEND_SYN = 0x00020000
    TF_SEND_RST = 0x00040000
    TF_PROBE = 0x00080000         # window probe or keepalive to send
    TF_PERSIST = 0x00100000       # t_rto runs for window probes
    TF_USED = 0x00400000          # the application knows the handle
    TF_IN_WHEEL = 0x00800000
    TF_KEEPALIVE = 0x01000000     # keepalive wanted
    TF_HALF_OPEN = 0x02000000     # counted in n_half_open
    TF_FIN_KNOWN = 0x04000000     # the peer's FIN came, before some of its data: at fin_seq
    TF_IN_TABLE = 0x08000000
    TF_CORK = 0x10000000          # the application sends more: hold back short segments
    TF_RTX_NOW = 0x20000000       # the first retransmission of a recovery does not wait for the window
    TF_LOSS_PROBE = 0x80000000u   # tail loss probe to send (RFC 8985 §7)
    TF_STARVED = 0x40000000       # a send came short for want of memory: tell the application when there is some

cdef enum:
    # Tcb.modes: what is seldom looked at
    MD_PAUSED = 0x01              # no payload for the application until it resumes
    MD_HELD = 0x02                # tcp_acked waits until less than `lowat` is unsent
    MD_RCV_FIXED = 0x04           # the application chose the size of its receive buffer,
    MD_SND_FIXED = 0x08           # of its send buffer
    MD_LINGER = 0x10              # a close that is not over after `linger` is an abort
    MD_PINGPONG = 0x20            # the application answers soon: ACKs wait for that
    MD_MTU_PROBING = 0x40         # the MSS is what probes of the path have confirmed (RFC 4821)
    MD_CORK_DUE = 0x80            # what is corked has waited long enough
    MD_SHORT = 0x100              # a send came short for want of room
    MD_LIMITED = 0x200            # sending had to wait: `limits` has its values

cdef enum:
    # Tcb.limited_by
    LIM_WINDOW = 1
    LIM_BUFFER = 2

cdef enum:
    # Tcb.fastopen (RFC 7413)
    FO_WANTED = 0x01              # client: the application wants its data to go with the SYN
    FO_OPTION = 0x02              # our next SYN, or SYN-ACK, carries the option
    FO_EXP = 0x04                 # in the experimental form
    FO_DATA = 0x08                # client: data went with the SYN
    FO_OPEN = 0x10                # server: data of the SYN was taken; counted in n_fastopen until the handshake is over

cdef enum:
    # TcpConf.syn_cookies
    COOKIES_OFF = 0
    COOKIES_AUTO = 1              # when half-open connections reach a limit
    COOKIES_ALWAYS = 2

cdef enum:
    # TcpConf.fastopen
    FASTOPEN_CLIENT = 1
    FASTOPEN_SERVER = 2

cdef enum:
    PORT_COUNTERS = 1024          # RFC 6056 §3.3.4, TABLE_LENGTH

cdef enum:
    # Tcb.timer
    TM_RTO = 0
    TM_REORDER = 1                # RACK waits for reordered segments
    TM_PROBE = 2                  # tail loss probe

cdef enum:
    # Tcb.cc_mode: what the congestion control of this connection asks of us
    CC_RATE = 0x01                # delivery-rate samples
    CC_PACED = 0x02               # segments leave at pacing_rate
    CC_MODEL = 0x04               # it sets the window in recovery, too: no proportional rate reduction
    CC_LOST = 0x08                # it wants to hear of every lost record
    CC_PRECISE_ECN = 0x10         # RFC 8257: ask for ECN, echo every mark
    CC_OBJECT = 0x20              # cc_state[0] is an object of Python

cdef enum:
    # Tcb.ecn
    ECN_OK = 0x01                 # negotiated (RFC 3168 §6.1.1)
    ECN_ECHO = 0x02               # ECE on what we send (RFC 8257 §3.2: DCTCP.CE)
    ECN_CWR = 0x04                # the window was reduced: CWR on the next new data
    ECN_ACCURATE = 0x08           # negotiated (RFC 9768 §3.1); in SYN-SENT: what our SYN asked for
    ECN_ASKED = 0x10              # our SYN asked for it
    ECN_DEAF = 0x20               # accurate, but the path does not keep it: no ECT, and marks are not heard (§3.2.2.4)
    ECN_OPTION = 0x40             # the peer sends byte counters: so do we (§3.2.3)
    ECN_SHAKE = 0x80              # the next pure ACK, of ours or in SYN-RECEIVED the peer's, tells of the SYN-ACK (§3.2.2.1)

cdef enum:
    # TcpConf.ecn
    ECN_OFF = 0
    ECN_PASSIVE                   # when the peer asks
    ECN_ON                        # and ask
    ECN_ACCURATE_ASK              # the same for accurate ECN: ask for it,
    ECN_ACCURATE_ON               # take it, and ask for the classic one,
    ECN_ACCURATE_PASSIVE          # take it

cdef enum:
    # TcpConf.ecn_option
    ECN_OPTION_OFF = 0
    ECN_OPTION_NEEDED             # when a counter has changed, and thrice in a round trip
    ECN_OPTION_ALWAYS

cdef enum:
    # Tcb.cwnd_limited
    CWND_WAS_LIMITED = 1          # in the window that ends at usage_end,
    CWND_IS_LIMITED = 2           # and by the flush at hand

cdef enum:
    # Tcb.events, delivered in this order
    EV_SYN = 0x01
    EV_ACCEPTED = 0x02
    EV_CONNECTED = 0x04
    EV_ACKED = 0x08
    EV_PAYLOAD = 0x10
    EV_SHUTDOWN = 0x20
    EV_CLOSED = 0x40

cdef enum CloseReason:
    CLOSE_NORMAL = 0              # both sides finished
    CLOSE_RESET                   # the peer sent RST
    CLOSE_REFUSED                 # RST in answer to our SYN
    CLOSE_TIMEOUT                 # retransmissions or keepalive without an answer
    CLOSE_ABORTED                 # our application aborted
    CLOSE_UNREACHABLE             # ICMP says so, or no route
    CLOSE_REJECTED                # the application did not accept
    CLOSE_NO_MEMORY


cdef struct Tcb:
    # The first HOT_LINES cache lines are what segments in order touch, so that one of many connections is fetched with few
    # misses; behind them is what timers, loss, bulk data and the ends of a connection need. `tcp_setup` checks where.
    # line 0: identity and state
    Flow flow                     # src is our side
    uint16_t lport
    uint16_t rport
    uint8_t state                 # TcpState
    uint8_t snd_wscale
    uint8_t rcv_wscale
    uint8_t dup_acks
    # line 1: sequence space
    uint32_t flags                # TF_*
    uint32_t id                   # slot
    uint32_t rcv_nxt
    uint32_t rcv_adv              # right edge of the window we offered
    uint32_t last_ack_sent
    uint32_t snd_una
    uint32_t snd_nxt
    uint32_t snd_wnd              # bytes, scaled
    uint32_t snd_wl1
    uint32_t snd_wl2
    uint32_t ts_recent
    uint32_t ts_offset
    uint32_t rcv_buffered         # payload that the application has not consumed, bytes
    uint32_t rcv_buf              # and its limit
    uint32_t events               # EV_*
    uint32_t rx_head              # payload in order, to be delivered
    # line 2: sending
    uint32_t rx_tail
    uint32_t acked                # bytes to report as acknowledged
    uint32_t mss                  # payload bytes of a full segment, options subtracted
    uint32_t cwnd                 # bytes
    uint32_t ssthresh
    uint8_t cc_mode               # CC_*
    uint8_t ecn                   # ECN_*; 0: not negotiated
    uint8_t cwnd_limited          # CWND_*
    uint8_t ce_count              # r.cep of RFC 9768, its last 3 bits
    uint32_t usage                # most bytes unacknowledged in the window
    uint32_t usage_end            # that ends when this is acknowledged
    uint32_t unsent_head          # slices that have no sequence number on the wire yet
    uint32_t unsent_tail
    uint32_t unsent               # bytes
    uint32_t rtx_head             # records in flight, in sequence order
    uint32_t rtx_tail
    uint32_t rtx_hint             # what is `lost` begins there or behind; NIL: anywhere
    uint32_t sacked               # sequence space of records in flight that are SACKed,
    uint32_t lost                 # thought lost and not retransmitted,
    # line 3: lists and timers; times in ns
    uint32_t snd_buf              # limit of unsent + unacknowledged, bytes
    uint32_t dirty_next
    uint32_t ready_next
    uint32_t ooo_head             # out-of-order segments, in sequence order
    int64_t rto
    int64_t srtt
    int64_t rttvar
    int64_t t_rto                 # deadlines; NEVER when off
    int64_t t_ack
    int64_t wheel_at              # when the wheel looks at this connection next
    # line 4: RACK-TLP (RFC 8985)
    int64_t last_rx
    int64_t last_data             # when new data left last
    int64_t rack_xmit             # §5.2: the latest sent segment known to have arrived: when it was sent,
    int64_t rack_rtt              # its round-trip time,
    uint32_t rack_end             # and its end
    uint32_t tlp_end              # 0: no loss probe is out
    int64_t min_rtt
    int64_t min_rtt_at
    uint8_t reo_seen              # reordering was seen
    uint8_t reo_mult              # quarters of min_rtt that the reordering window has
    uint8_t reo_persist           # recoveries until it is narrow again
    uint8_t timer                 # what t_rto is for: TM_*
    uint8_t tlp_retrans           # the loss probe was a retransmission
    uint8_t frto                  # RFC 5682: 1 head retransmitted after a timeout, 2 new data sent after that
    uint8_t undo                  # the window before this episode is kept: it may have been spurious
    uint8_t fastopen              # FO_*
    # line 5: records, statistics
    uint32_t sent_head            # what was sent once, and is neither SACKed nor lost, begins there or behind; NIL: anywhere
    uint32_t again_head           # records that were sent again, and are neither, in the order of that
    uint32_t sack_hint            # the record that filled a gap last, or NIL
    uint32_t sack_front           # the record that was the highest SACKed one last, or NIL
    uint32_t segs_in
    uint32_t segs_out
    uint32_t data_segs_in
    uint32_t data_segs_out
    int64_t ts_recent_at
    int64_t stalled_since         # first transmission of what is still unacknowledged
    uint64_t bytes_acked
    uint64_t bytes_received
    # line 6: what the receiver knows and decides
    int64_t data_rx_at            # when payload came last, in order
    int64_t ato                   # how long an ACK may wait
    int64_t ato_calm              # gaps between arrivals up to this change nothing
    uint32_t rcv_mss              # the largest segment that came, bytes of payload
    uint32_t tune_seq             # buffer tuning: from where bytes are counted,
    uint32_t tune_space           # bytes of the best round trip so far
    uint32_t modes                # MD_*
    uint32_t lowat                # tcp_acked only while less is unsent; 0: always
    uint32_t dsack_len            # the latest duplicate arrival, to report in the next ACK (RFC 2883), 0: none
    uint32_t snd_sml              # end of the latest segment sent that was not full
    uint16_t quick_acks           # ACKs still to be sent at once
    uint16_t mtu_probe            # size of the probe that is out, 0: none
    uint16_t tso                  # most payload bytes that the device cuts into segments; 0: it does not
    uint8_t backoff               # retransmissions of the oldest segment
    uint8_t probes                # unanswered window or keepalive probes
    uint8_t close_reason
    uint8_t dup_owed              # duplicate ACKs to send to a peer without SACK
    uint8_t limited_by            # LIM_*, 0: sending does not wait
    uint8_t n_recent              # values in ooo_recent
    # line 7: the application's
    int64_t busy                  # ns with something to send or unacknowledged, until
    int64_t busy_at               # since when, 0: there is nothing
    uint64_t user
    void* object                  # facade: the Connection, a counted reference, or NULL
    const CongestionOps* cc
    int64_t t_idle                # keepalive, FIN-WAIT-2, TIME-WAIT
    int64_t t_misc                # what is corked leaves; once closed, who lingers is cut off
    uint32_t gen                  # of the slot: the handle's other half
    uint32_t max_wnd              # largest window the peer offered
    # line 8, no longer hot: timers and windows that move
    uint32_t wheel_next
    uint32_t wheel_prev
    uint32_t wheel_slot
    uint32_t ooo_tail
    int64_t t_pace                # deadline: the next segment may leave
    int64_t rcv_rtt               # round trip as the receiver sees it, 0: unknown
    int64_t rcv_rtt_at            # when the measurement began that ends at sequence number
    uint32_t rcv_rtt_seq
    uint32_t n_ooo
    int64_t tune_at               # buffer tuning: since when bytes are counted
    uint32_t recover              # RFC 6582
    uint32_t fack                 # right edge of the highest SACK block
    # line 9: congestion control
    uint64_t cc_state[13]         # the algorithm's; one that needs more has its place in Tcp.extra
    # delivery rate, with CC_RATE; counts of bytes are modulo 2**32
    uint32_t delivered            # bytes that arrived, ever,
    uint32_t lost_total           # and that were thought lost
    uint32_t app_limited          # value of `delivered` up to which samples tell more of the application; 0: none
    uint32_t rate_bytes           # the latest sample that counts: bytes
    int64_t rate_interval         # in so many ns
    int64_t delivered_at
    int64_t flight_at             # when the first segment of the flight left that is being acknowledged
    # pacing, with CC_PACED
    uint64_t pacing_rate          # bytes per second; 0: as fast as it goes
    uint64_t max_pacing_rate      # 0: no limit
    int64_t pace_at               # when what was sent so far will have been paid for
    uint32_t pace_burst           # ns that sending may be ahead of `pace_at`
    # recovery
    uint32_t reo_round            # the next D-SACK that widens the reordering window is beyond this
    uint32_t retrans_stamp        # timestamp of the first retransmission of this episode, 0: none
    uint32_t retrans_high         # end of the highest retransmission
    int32_t undo_retrans          # retransmissions that no D-SACK reported as superfluous
    uint32_t undo_marker          # snd_una when the episode began
    uint32_t prior_cwnd
    uint32_t prior_ssthresh
    uint32_t prr_delivered        # RFC 6937: bytes delivered and sent in this recovery,
    uint32_t prr_out
    uint32_t recover_fs           # and in flight when it began
    SackBlock sack_cache[4]       # blocks of the previous ACK
    uint32_t ooo_recent[4]        # last bytes of the latest arrivals, one for each block: the latest is reported first
    uint32_t ooo_next             # connections with a gap, the oldest gap first
    uint32_t ooo_prev
    uint32_t dsack_left           # of `dsack_len` bytes
    uint32_t n_dsack
    uint32_t n_ooo_in
    uint32_t n_retransmits
    uint32_t fin_seq
    uint64_t bytes_retrans
    # opening and closing
    uint32_t iss
    uint32_t irs
    int64_t syn_sent_at
    int64_t challenge_at          # RFC 5961 §7: when the last challenge ACK left
    int64_t persist_since         # the peer's window is closed since then
    uint32_t tw_next              # TIME-WAIT connections, oldest first
    uint32_t tw_prev
    uint16_t peer_mss
    # probing of the path MTU (RFC 4821), in payload bytes of a full segment
    uint16_t max_seg              # 0: from the path and the peer
    uint16_t mtu_low              # arrives
    uint16_t mtu_high             # does not arrive, or is not possible: one less
    uint32_t mtu_at               # when the search began, ms of the timestamp clock
    uint32_t mtu_probe_seq        # where the probe begins
    # what the application set for this connection
    uint32_t cork_seq             # the corked segment begins there
    uint32_t ecn_end              # congestion marks count again when this is acknowledged
    uint32_t linger               # ms, as the next three
    uint32_t keep_idle
    uint32_t keep_interval
    uint32_t user_timeout
    uint8_t keep_probes
    uint8_t ce_told               # s.cep of RFC 9768: what the peer has counted, the last 3 bits
    uint8_t n_untold              # values in ooo_recent that came after the last ACK
    uint32_t again_tail


cdef struct Limits:
    # what kept a connection from sending, ns
    int64_t at                    # since when it waits, if it does
    int64_t rwnd                  # for the peer's window,
    int64_t sndbuf                # and for room in the send buffer


cdef struct AccEcn:
    # of a connection with ECN. Bytes are payload by the packets' ECN field: ECT(1), CE, ECT(0)
    int64_t option_at             # when the option left last
    uint32_t received             # marked packets that came,
    uint32_t received_bytes[3]
    uint32_t delivered            # and those of ours that the peer told of
    uint32_t delivered_bytes[3]
    uint8_t syn_field             # ECN field of the peer's SYN or SYN-ACK,
    uint8_t field                 # and of its latest packet
    uint8_t pending               # marks since our latest packet
    uint8_t fields                # of the option, up to the last that has counted something
    uint8_t demand                # packets that have to bring the option
    uint8_t answers               # SYN-ACKs sent
    uint8_t plain                 # the peer has also asked without flags
    uint8_t heard                 # the first segment after the SYN came
    uint8_t option                # the peer's: 0 none came, 1 good, 2 mangled on the way


cdef struct AckInfo:
    # what one ACK told
    uint32_t acked                # bytes newly acknowledged
    uint32_t delivered            # bytes that are now known to have arrived
    uint32_t in_flight            # before it
    uint32_t lost                 # bytes that are thought lost since
    int64_t rtt                   # ns; -1: none
    int64_t sent_at               # of the newest acknowledged record, -1 if that says nothing (Karn)
    int64_t resent_at             # then: the latest time at which one of them was sent
    bint original                 # something arrived that was never retransmitted
    bint dsack
    bint news                     # SACK blocks marked something
    bint recovery                 # the window is not the algorithm's at the moment
    bint ece                      # the peer saw a mark of congestion
    uint32_t marked               # bytes that arrived marked
    uint32_t packets              # records acknowledged; with accurate ECN
    Segment* seg
    # with CC_RATE: the delivery rate
    int64_t interval              # ns; 0: no sample
    uint32_t sampled              # bytes that arrived in it,
    uint32_t sample_lost          # that were thought lost since the newest of them left,
    uint32_t sent_in_flight       # and that were in flight when it left, itself included
    uint32_t prior_delivered      # `Tcb.delivered` when it left,
    int64_t prior_at              # and `delivered_at`
    int64_t newest_at             # when it left
    int64_t send_interval
    bint app_limited


cdef struct CongestionOps:
    const char* name
    uint32_t mode                 # CC_*
    # set cc_state up (it is zero); cwnd has its value
    void (*init)(Tcp* s, Tcb* t) noexcept nogil
    # an ACK that acknowledged or delivered something; with `recovery` the window is not to be touched
    void (*on_ack)(Tcp* s, Tcb* t, AckInfo* ack) noexcept nogil
    # an episode of loss begins, by fast retransmit or timeout: the new ssthresh, bytes
    uint32_t (*on_loss)(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil
    # a retransmission timeout; the window is one segment (unless CC_MODEL) and on_loss was asked
    void (*on_timeout)(Tcp* s, Tcb* t) noexcept nogil
    # the episode was spurious: cwnd and ssthresh are back (unless CC_MODEL)
    void (*on_undo)(Tcp* s, Tcb* t) noexcept nogil
    # a congestion mark, once in a window of data: the new ssthresh, bytes
    uint32_t (*on_ecn)(Tcp* s, Tcb* t, uint32_t in_flight) noexcept nogil
    # sending again after `idle` ns with nothing in flight, longer than the RTO (CC_MODEL: of any length)
    void (*on_idle)(Tcp* s, Tcb* t, int64_t idle) noexcept nogil
    # with CC_LOST: a record is thought lost
    void (*on_lost)(Tcp* s, Tcb* t, Packet* k) noexcept nogil
    # the connection ends, or gets another algorithm
    void (*release)(Tcp* s, Tcb* t) noexcept nogil


cdef struct TcpConf:
    # times in ns, sizes in bytes
    int64_t rto_min
    int64_t rto_max
    int64_t rto_initial
    int64_t delayed_ack
    int64_t time_wait
    int64_t fin_wait2
    int64_t keepalive
    int64_t keepalive_interval
    int64_t user_timeout
    int64_t persist_timeout
    uint32_t keepalive_probes
    uint32_t syn_retries
    uint32_t synack_retries
    uint32_t retries
    uint32_t send_buffer
    uint32_t send_buffer_max      # autotuning: the largest, else the same
    uint32_t receive_buffer
    uint32_t receive_buffer_max
    uint32_t lowat
    uint32_t quick_acks
    uint32_t mtu_base
    int mtu_probing               # 0 off, 1 after a black hole, 2 always
    int64_t mtu_interval
    int64_t delayed_ack_max
    uint32_t max_ooo
    uint32_t max_half_open
    uint32_t half_open_per_port   # 0: no limit
    uint32_t half_open_per_peer
    uint32_t connections_per_peer
    uint32_t rst_rate             # per second
    uint32_t challenge_rate
    uint32_t fastopen_pending
    int syn_cookies               # COOKIES_*
    int fastopen                  # FASTOPEN_*
    uint32_t mss
    uint32_t initial_window
    uint32_t copy_threshold
    uint32_t tso
    uint64_t max_pinned
    uint16_t queue                # ours, of
    uint16_t queues               # those that a hash spreads packets over
    uint16_t port_low
    uint16_t port_high
    bint window_scale
    bint sack
    bint dsack
    bint timestamps
    bint bsd_options
    bint idle_restart
    bint nagle
    bint strict_timestamps
    bint pacing
    uint8_t ecn                   # ECN_OFF...
    uint8_t ecn_option            # ECN_OPTION_OFF...
    uint64_t max_pacing_rate
    const CongestionOps* cc


cdef enum:
    EXTRA = 320                   # bytes beside the connection that few connections need: of the congestion control
    EXTRA_LIMITS = 224            # algorithm, from here `Limits`,
    EXTRA_ECN = 248               # and from here `AccEcn`
    TCB_STRIDE = 960              # bytes a connection takes; sizeof(Tcb) rounded up to cache lines
    HOT_LINES = 8                 # of them, up to Tcb.wheel_next

cdef enum:
    WHEEL_BITS = 8
    WHEEL_SLOTS = 256
    WHEEL_LEVELS = 3              # reaches 4.8 hours; later deadlines are looked at again then
    WHEEL_TICK_SHIFT = 20         # a tick is 2**20 ns, about 1 ms


cdef struct Wheel:
    uint64_t tick                 # everything before this tick has been looked at
    uint32_t slots[768]           # WHEEL_LEVELS * WHEEL_SLOTS heads
    uint64_t bitmap[12]           # which are not empty
    uint32_t n


cdef struct DemuxEntry:
    uint32_t hash                 # 0: empty
    uint32_t id


cdef struct FastOpenEntry:
    # what a client keeps of a server (RFC 7413 §4.1.3)
    uint64_t hi                   # its address
    uint64_t lo
    int64_t used_at               # 0: free
    int64_t blocked_until         # SYNs with data got lost
    uint16_t mss                  # the server's
    uint8_t n                     # bytes of the cookie
    uint8_t exp                   # it speaks the experimental form
    uint8_t failures
    uint8_t cookie[16]


cdef struct Tcp:
    Net* net
    Pool* pool
    uint64_t* counters
    Slab* tcbs
    uint8_t* tcb_base             # of the slab: TCB_STRIDE bytes each
    uint8_t* extra                # EXTRA bytes each; takes memory only where something was written
    TcpConf conf
    DemuxEntry* table
    uint32_t table_mask
    uint64_t hash_key[4]
    uint64_t isn_key[2]
    uint64_t ts_key[2]
    uint64_t port_key[2]
    uint32_t port_counters[1024]  # PORT_COUNTERS
    uint64_t cookie_key[2]
    uint64_t fastopen_key[2]
    Rng rng
    RateLimit rsts                # RSTs to nobody's segments
    RateLimit challenges
    TallyEntry* tally             # connections by peer and by port; NULL: no limit asks for it
    uint32_t tally_mask
    int64_t cookies_until         # SYN cookies that were sent may be answered until then
    FastOpenEntry* fastopen_cache  # NULL: no client
    uint32_t fastopen_mask
    uint32_t n_fastopen           # connections whose SYN brought data, in SYN-RECEIVED
    uint32_t n_fastopen_reset     # of these, those that a RST ended lately (RFC 7413 §5.1)
    int64_t fastopen_reset_at
    uint64_t listening[1024]      # bitmap of ports; port 0: every port
    uint32_t dirty_head
    uint32_t dirty_tail
    uint32_t ready_head
    uint32_t ready_tail
    uint32_t tw_head
    uint32_t tw_tail
    uint32_t n_half_open
    uint32_t n_time_wait
    uint32_t ooo_head             # connections with out-of-order segments, the oldest gap first
    uint32_t ooo_tail
    uint32_t n_ooo                # segments that they hold,
    uint32_t max_ooo              # and their limit, so that gaps cannot take the pool
    uint32_t ts_now               # timestamp clock, ms
    int64_t now
    Order flight                  # records as they left,
    Order held                    # and packets as they came to wait behind a gap
    int64_t next_timer            # no entry of the wheel is due before
    void* engine                  # for congestion control in Python
    Wheel wheel
    # how many packets meet connections that no cache holds; see lookahead.pxd
    uint32_t n_met                # packets
    uint32_t n_cold               # and those
    bint cold                     # it is worth looking ahead
    int64_t warm_since            # a connection is in a cache if something came for it since then
    int64_t warm_next


cdef extern from "stdint.h" nogil:
    const int64_t TIMER_OFF "INT64_MAX"


cdef inline Tcb* tcb(Tcp* s, uint32_t i) noexcept nogil:
    return <Tcb*>(s.tcb_base + <size_t>i * TCB_STRIDE)


cdef inline uint64_t tcb_handle(Tcb* t) noexcept nogil:
    """`slab_handle`, without a look at the slab."""
    return (<uint64_t>t.gen << 32) | t.id


cdef inline uint8_t* tcb_extra(Tcp* s, Tcb* t) noexcept nogil:
    return s.extra + <size_t>t.id * EXTRA


cdef inline Limits* limits(Tcp* s, Tcb* t) noexcept nogil:
    """Of a connection with MD_LIMITED."""
    return <Limits*>(tcb_extra(s, t) + EXTRA_LIMITS)


cdef inline AccEcn* accecn(Tcp* s, Tcb* t) noexcept nogil:
    """Of a connection with ECN_OK or ECN_ACCURATE."""
    return <AccEcn*>(tcb_extra(s, t) + EXTRA_ECN)


cdef inline uint32_t to_ms(int64_t ns) noexcept nogil:
    """Whole milliseconds, rounded up."""
    return <uint32_t>min((ns + 999999) // 1000000, <int64_t>0xFFFFFFFF)


cdef inline int64_t from_ms(uint32_t ms) noexcept nogil:
    return <int64_t>ms * 1000000


cdef inline uint32_t tcp_in_flight(Tcb* t) noexcept nogil:
    """Bytes thought to be in the network (RFC 6675 `pipe`)."""
    return (t.snd_nxt - t.snd_una) - t.sacked - t.lost


cdef inline bint tcp_awaits(Tcb* t, uint32_t mark) noexcept nogil:
    """Whether something below `mark` is unacknowledged, which was at most `snd_nxt` when it was noted, however long ago: a plain
    comparison turns around after 2 GiB."""
    return mark - t.snd_una - <uint32_t>1 < t.snd_nxt - t.snd_una


cdef inline uint32_t rec_space(Packet* k) noexcept nogil:
    """Sequence space of a record in flight."""
    return k.total_len + ((k.flags >> 17) & 1)    # REC_FIN
