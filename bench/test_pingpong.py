"""Transactions, a request and its answer, with both engines on one core: by size, connections, handler and offload."""
import pytest

from bench import worlds

TRANSACTIONS = 32_000


def run(measure, scale, group, **options):
    connections = options.get("connections", 32)
    pair, client = worlds.pingpong(**options)
    rounds = scale(max(1, TRANSACTIONS // min(connections, 256)), 20)

    def transactions():
        done = client.transactions
        pair.run(rounds)
        return client.transactions - done

    measure(f"ping-pong, {group}", "transactions", transactions, **options)
    pair.close()


@pytest.mark.parametrize("size", [1, 64, 512, 1448, 8192, 65536])
def test_size(measure, scale, size):
    run(measure, scale, "by size", size=size)


@pytest.mark.parametrize("connections", [1, 8, 32, 256, 1000, 10_000, 100_000])
def test_connections(measure, scale, connections):
    run(measure, scale, "by connections", connections=scale(connections))


@pytest.mark.parametrize("idle", [1000, 100_000])
def test_idle(measure, scale, idle):
    run(measure, scale, "32 connections beside idle ones", idle=scale(idle))


@pytest.mark.parametrize("connections", [1, 32, 1000])
@pytest.mark.parametrize("handler", list(worlds.HANDLERS))
def test_handler(measure, scale, handler, connections):
    run(measure, scale, f"by handler, {connections} connections", handler=handler, connections=scale(connections, 8))


@pytest.mark.parametrize("options", [{}, {"checksum_offload": False}, {"version": 6}, {"medium": "ethernet"},
                                     {"medium": "ethernet", "version": 6, "checksum_offload": False}],
                         ids=["ipv4", "software checksum", "ipv6", "ethernet", "all of them"])
def test_offload(measure, scale, options):
    run(measure, scale, "by offload and medium", **options)
