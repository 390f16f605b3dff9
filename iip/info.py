"""What is known about a connection, by the names and units of Linux's `tcp_info`."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TcpInfo:
    """A snapshot. Times are microseconds where Linux has them so (`rto`, `ato`, `rtt`, `rttvar`) and milliseconds
    since the event for `last_*`; windows of the sender and what is in flight are segments, the rest bytes."""

    state: int                # TCP_ESTABLISHED is 1, as Linux counts
    ca_state: int             # 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss
    retransmits: int          # timeouts since the last acknowledgement of something new
    probes: int               # unanswered window or keepalive probes
    backoff: int
    options: int              # 1 timestamps, 2 SACK, 4 window scale
    snd_wscale: int
    rcv_wscale: int
    rto: int
    ato: int
    snd_mss: int
    unacked: int
    sacked: int
    lost: int                 # thought lost, retransmitted or not
    retrans: int              # retransmitted and not acknowledged
    last_data_sent: int       # of any segment: nothing finer is kept
    last_ack_recv: int        # of any segment
    pmtu: int
    rcv_ssthresh: int
    rtt: int
    rttvar: int
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    delivery_rate: int        # bytes per second; measured from the first call of `Connection.info` on, or by the algorithm
    delivery_rate_app_limited: bool
    pacing_rate: int          # bytes per second; 0: no pacing
    max_pacing_rate: int
    min_rtt: int
    reordering: int
    rcv_space: int
    total_retrans: int
    bytes_acked: int
    bytes_received: int
    notsent_bytes: int
    snd_wnd: int
    rcv_wnd: int
    rcv_ooopack: int          # out-of-order segments waiting now
