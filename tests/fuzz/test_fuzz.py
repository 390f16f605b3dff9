"""A million packets that no one would send, in runs that each end with a full pool.

IIP_FUZZ_PACKETS scales the number (1000000). Seeds are fixed; a failure names the command that repeats it.
"""
import pytest

from tests.fuzz.cases import PACKETS, SHARES, TOTAL, run

SHARDS = 5
PAIRS = 500


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("kind", SHARES)
def test_packets(kind, shard):
    """Whatever comes in, the invariants hold and every packet is back in the end."""
    runs = max(1, -(-int(TOTAL * SHARES[kind]) // (PACKETS * SHARDS)))
    seen = set()
    for seed in range(shard * runs, (shard + 1) * runs):
        seen.update(run(kind, seed).stats.nonzero())
    assert "rx_packets" in seen


@pytest.mark.parametrize("shard", range(SHARDS))
def test_two_engines_over_a_bad_wire(shard):
    """Loss, duplication, reordering, corruption, small buffers, tiny pools: what arrives is what was sent."""
    runs = max(1, min(PAIRS, PAIRS * TOTAL // 1000000) // SHARDS)
    assert sum(run("pair", seed) for seed in range(shard * runs, (shard + 1) * runs)) > 0


def test_the_fuzzers_reach_what_they_aim_at():
    """The counters of some runs together: a fuzzer whose packets die at the door shows nothing."""
    mutated, hostile = {}, {}
    for seed in range(12):
        mutated.update(run("mutated", seed).stats.nonzero())
        hostile.update(run("hostile", seed).stats.nonzero())
    assert {"ip_reassembled", "ip_fragment_overlap", "ip6_bad_extension", "ip6_unknown_option", "ip_source_route",
            "tcp_bad_checksum", "tcp_bad_options", "tcp_in_order", "tcp_out_of_order", "tcp_established", "tcp_paws",
            "icmp_in_error", "arp_in_requests", "nd_in"} <= set(mutated)
    assert {"tcp_established", "tcp_in_order", "tcp_in_acks", "tcp_out_of_order", "tcp_bad_ack", "tcp_fin_in",
            "tcp_syn_in_window", "tcp_rst_challenged", "tcp_retransmits", "tcp_duplicate_acks", "tcp_window_probes",
            "tcp_table_full", "tx_no_buffer"} <= set(hostile)
