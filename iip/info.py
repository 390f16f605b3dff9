"""What is known about a connection, by the names and units of Linux's `tcp_info`."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TcpInfo:
    """A snapshot. Times are microseconds where Linux has them so and milliseconds since the event for `last_*`; windows
    of the sender and what is in flight are segments, the rest bytes."""

    state: int                # TCP_ESTABLISHED is 1, as Linux counts
    ca_state: int             # 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss
    retransmits: int          # timeouts since the last acknowledgement of something new
    probes: int               # unanswered window or keepalive probes
    backoff: int
    options: int              # 1 timestamps, 2 SACK, 4 window scale, 8 ECN
    snd_wscale: int
    rcv_wscale: int
    rto: int                  # us
    ato: int                  # us that an ACK may wait
    snd_mss: int
    rcv_mss: int              # the largest segment that came
    unacked: int
    sacked: int
    lost: int                 # thought lost, retransmitted or not
    retrans: int              # retransmitted and not acknowledged
    fackets: int              # always 0, as in Linux now
    last_data_sent: int
    last_ack_sent: int        # always 0, as in Linux
    last_data_recv: int       # in order
    last_ack_recv: int        # of any segment
    pmtu: int
    rcv_ssthresh: int         # the receive buffer
    rtt: int                  # us
    rttvar: int               # us
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    delivery_rate: int        # bytes per second; measured from the first call of `Connection.info` on, or by the algorithm
    delivery_rate_app_limited: bool
    pacing_rate: int          # bytes per second; 0: no pacing
    max_pacing_rate: int
    min_rtt: int
    reordering: int
    rcv_rtt: int              # us, as the receiver sees it; 0: unknown
    rcv_space: int            # what the application took in the best round trip
    total_retrans: int
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    notsent_bytes: int
    data_segs_in: int
    data_segs_out: int
    busy_time: int            # us with something to send or unacknowledged,
    rwnd_limited: int         # of these waiting for the peer's window,
    sndbuf_limited: int       # and for room in the send buffer
    delivered: int            # segments
    bytes_sent: int           # of payload, repetitions included
    bytes_retrans: int
    dsack_dups: int
    reord_seen: int           # 1: reordering was seen
    rcv_ooopack: int          # segments that came behind a gap
    snd_wnd: int
    rcv_wnd: int
    rehash: int               # always 0: there is one path
    delivered_ce: int         # segments of ours that met congestion (ECN), as the peer tells,
    received_ce: int          # and of the peer's
    delivered_e1_bytes: int   # accurate ECN: payload that arrived as ECT(1), as the peer tells,
    delivered_e0_bytes: int   # ECT(0),
    delivered_ce_bytes: int   # marked,
    received_e1_bytes: int    # and the same of what came
    received_e0_bytes: int
    received_ce_bytes: int
    ecn_mode: int             # 0 none, 1 classic (RFC 3168), 2 accurate (RFC 9768), 3 asked for
    accecn_opt_seen: int      # the peer's counters of bytes: 0 none came, 1 not to be believed, 2 good
    accecn_fail_mode: int     # bits: 2 the path changes ECN's bits, 8 the option
