"""What a packet and a view of one cost, in C and through the Python class."""
import pytest

from iip import PacketPool
from iip.memory.pool import _cycle


@pytest.mark.parametrize("views", [False, True], ids=["packets", "views"])
@pytest.mark.parametrize("burst", [1, 32, 256])
def test_take_and_give_back(measure, scale, burst, views):
    pool, n = PacketPool(4096), scale(1 << 20)
    measure("pool, take and give back in C", "packets", lambda: _cycle(pool, n, burst, views), burst=burst)


def test_from_python(measure):
    pool = PacketPool(64)

    def cycle():
        pool.free(pool.alloc())
        return 1
    measure("pool, from Python", "packets", cycle)


def test_a_view_from_python(measure):
    pool = PacketPool(64)
    packet = pool.alloc(bytes(1000))

    def cycle():
        pool.free(pool.slice(packet, 10, 100))
        return 1
    measure("pool, from Python", "views", cycle)
