"""Connections from set-up to tear-down: connect, accept, one exchange, orderly close, sustained, with TIME-WAIT in force."""
import pytest

from bench import worlds


@pytest.mark.parametrize("options", [{}, {"version": 6}, {"medium": "ethernet"}, {"checksum_offload": False}],
                         ids=["ipv4", "ipv6", "ethernet", "software checksum"])
@pytest.mark.parametrize("width", [1, 32, 256])
def test_cycle(measure, scale, width, options):
    pair, client = worlds.cycle(width=width, **options)
    rounds = scale(4000, 100)

    def cycles():
        done = client.cycles
        pair.run(rounds)
        return client.cycles - done

    measure(f"set-up to tear-down, {width} at the same time", "connections", cycles, **options)
    assert client.failures == 0
    pair.close()


@pytest.mark.parametrize("waiting", [512, 65_536])
def test_with_many_in_time_wait(measure, scale, waiting):
    waiting = scale(waiting, 256)
    pair, client = worlds.cycle(slots=waiting)

    def cycles():
        done = client.cycles
        pair.run(scale(4000, 100))
        return client.cycles - done

    measure("set-up to tear-down, by connections in TIME-WAIT", "connections", cycles, waiting=2 * waiting)
    pair.close()
