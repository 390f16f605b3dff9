"""What became of a packet, and every other thing the stack counts.

One enumeration serves both: a verdict is the index of its counter. Names say what happened.
Everything is counted in one place, `count`, and read from Python as one mapping (`Engine.stats`).
"""
from libc.stdint cimport uint64_t


cpdef enum Verdict:
    ok = 0                        # go on to the next layer; not a counter of its own
    consumed                      # handled completely at this layer
    # traffic
    rx_packets
    rx_bytes
    tx_packets
    tx_bytes
    tx_queue_full                 # the driver did not keep up: output waits (back-pressure)
    tx_no_buffer                  # the packet pool was empty: output waits or the reply is dropped
    # link
    link_too_short
    link_unknown_type
    link_not_ours
    link_vlan
    link_looped                   # ARP or ND of our own that the link gave back
    arp_malformed
    arp_not_for_us
    arp_in_requests
    arp_in_replies
    arp_out_requests
    arp_out_replies
    arp_conflict                  # somebody else claims an address of ours
    neighbour_table_full
    neighbour_queue_full
    neighbour_queued
    neighbour_unreachable
    nd_malformed
    nd_not_for_us
    nd_in
    nd_out
    nd_conflict
    mld_out
    mld_in                        # MLD and IGMP queries and reports
    group_table_full
    # IPv4, IPv6
    ip_bad_version
    ip_bad_header_length
    ip_bad_total_length
    ip_bad_checksum
    ip_bad_source                 # martian, multicast, broadcast or own address as source
    ip_bad_options
    ip_source_route
    ip_not_ours
    ip_unknown_protocol
    ip6_bad_payload_length
    ip6_bad_extension
    ip6_too_many_extensions
    ip6_unknown_option
    ip6_routing_header
    ip_no_route
    ip_fragment_queued
    ip_fragment_bad               # length not a multiple of 8, beyond 64 KiB, tiny, or contradictory
    ip_fragment_overlap
    ip_fragment_duplicate
    ip_fragment_no_room
    ip_fragment_timeout
    ip_reassembled
    ip_fragmented
    ip_too_big                    # sending: does not fit and must not be fragmented
    # ICMP
    icmp_malformed
    icmp_bad_checksum
    icmp_unknown_type
    icmp_ignored                  # known, but not for a host that is configured: redirects, router solicitations
    icmp_in_echo
    icmp_in_echo_reply
    icmp_in_error
    icmp_error_not_ours           # the quoted packet is none that we could have sent
    icmp_out_echo
    icmp_out_echo_reply
    icmp_out_error
    icmp_rate_limited
    icmp_queue_full               # the application was not told: no room for the event
    pmtu_reduced                  # the path MTU cache learned a smaller value
    # UDP
    udp_malformed
    udp_bad_checksum
    udp_no_port
    udp_in
    udp_out
    udp_queue_full
    # TCP input
    tcp_bad_header
    tcp_bad_checksum
    tcp_bad_options
    tcp_signed                    # with a signature (RFC 2385) that nobody here can check
    tcp_bad_address               # multicast or broadcast, or a connection with ourselves (land)
    tcp_no_connection             # answered with RST
    tcp_not_accepted              # the application said no: answered with RST
    tcp_table_full
    tcp_half_open_full
    tcp_peer_limit                # connections_per_peer
    tcp_cookies_sent
    tcp_cookies_received
    tcp_cookies_failed
    tcp_in_segments
    tcp_in_order                  # header prediction: data
    tcp_in_acks                   # header prediction: pure ACK
    tcp_out_of_window
    tcp_paws
    tcp_no_timestamp              # agreed upon, and missing (strict_timestamps)
    tcp_old_duplicate
    tcp_bad_ack
    tcp_bad_flags
    tcp_syn_in_window
    tcp_rst_in
    tcp_rst_challenged
    tcp_rst_out
    tcp_rst_limited
    tcp_challenge_ack
    tcp_challenge_limited
    tcp_out_of_order
    tcp_ooo_full
    tcp_ooo_pruned
    tcp_rx_window_exceeded
    tcp_after_close
    tcp_duplicate_acks
    tcp_fin_in
    tcp_rx_no_buffer
    tcp_ecn_ce                    # segments with a mark of congestion
    tcp_ecn_mangled               # accurate ECN: the handshake or the first segment shows that the path changes the bits
    tcp_ecn_bad_option            # counters of bytes of an impossible length, or going backwards
    tcp_coalesced                 # segments that were joined to the one before (GRO)
    # TCP output
    tcp_out_segments
    tcp_out_data
    tcp_retransmits
    tcp_fast_retransmits
    tcp_rto_expired
    tcp_loss_probes
    tcp_loss_probe_repairs        # a probe repaired a loss
    tcp_undone                    # a recovery turned out to be spurious: the window is back
    tcp_ecn_reductions            # the peer saw marks: the window was reduced
    tcp_delayed_acks
    tcp_window_probes
    tcp_keepalives
    tcp_mtu_probes
    tcp_mtu_probes_confirmed
    tcp_mtu_probe_failures
    tcp_mtu_black_holes
    # TCP connections
    tcp_active_opens
    tcp_passive_opens
    tcp_established
    tcp_closed
    tcp_reset_received
    tcp_timed_out
    tcp_user_timeout
    tcp_linger_expired
    tcp_persist_timeout
    tcp_time_wait_reused
    tcp_time_wait_recycled
    tcp_icmp_hard_error
    tcp_icmp_soft_error
    tcp_icmp_out_of_window
    tcp_pmtu_reduced
    # TCP Fast Open
    tcp_fastopen_cookies_out      # server
    tcp_fastopen_in
    tcp_fastopen_bad_cookie
    tcp_fastopen_limited
    tcp_fastopen_out              # client
    tcp_fastopen_acked
    tcp_fastopen_fallback
    N_VERDICTS


cdef inline void count(uint64_t* counters, int verdict) noexcept nogil:
    counters[verdict] += 1


cdef inline void count_n(uint64_t* counters, int verdict, uint64_t n) noexcept nogil:
    counters[verdict] += n
