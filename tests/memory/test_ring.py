"""The ring against a deque, and between two threads that really run at the same time."""
import gc
import mmap
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import shared_memory

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iip.memory.ring import BufferRing, _cycle_u32, _stress_consumer, _stress_producer


def put(ring, data):
    view = ring.reserve(len(data) // ring.elem_size)
    view[:] = data[:view.nbytes]
    ring.commit()
    return view.nbytes


def take(ring, n=None):
    data = bytes(ring.peek(n))
    ring.release()
    return data


def test_bytes_go_through_in_order():
    ring = BufferRing(8)
    assert put(ring, b"abc") == 3
    assert put(ring, b"de") == 2
    assert len(ring) == 5 and ring.free == 3
    assert take(ring, 2) == b"ab"
    assert take(ring) == b"cde"
    assert len(ring) == 0 and ring.free == 8
    assert take(ring) == b""


def test_a_reservation_ends_where_the_ring_wraps():
    ring = BufferRing(8)
    put(ring, b"abcdef")
    take(ring, 5)
    assert put(ring, b"ghijk") == 2
    assert put(ring, b"ijk") == 3
    assert take(ring) == b"fgh"
    assert take(ring) == b"ijk"


def test_full_is_counted_and_survived():
    ring = BufferRing(4)
    put(ring, b"abcd")
    assert ring.reserve(1).nbytes == 0
    assert ring.reserve().nbytes == 0
    assert ring.full_count == 2
    ring.commit()
    assert take(ring, 1) == b"a"
    assert put(ring, b"e") == 1
    assert ring.full_count == 2
    assert take(ring) + take(ring) == b"bcde"


def test_less_room_than_asked_for_is_not_full():
    ring = BufferRing(4)
    put(ring, b"abc")
    assert ring.reserve(4).nbytes == 1
    assert ring.full_count == 0


def test_nothing_is_copied():
    memory = bytearray(16)
    ring = BufferRing(16, memory=memory)
    ring.reserve(3)[:] = b"abc"
    assert memory[:3] == b"abc"
    assert len(ring) == 0 and ring.peek().nbytes == 0
    ring.commit()
    memory[1:2] = b"X"
    assert bytes(ring.peek()) == b"aXc"


def test_partial_commit_and_release():
    ring = BufferRing(8)
    ring.reserve(4)[:] = b"abcd"
    ring.commit(1)
    ring.commit(2)
    assert bytes(ring.peek()) == b"abc"
    ring.release(2)
    assert bytes(ring.peek()) == b"c"
    assert len(ring) == 1


def test_more_than_reserved_or_peeked():
    ring = BufferRing(8)
    with pytest.raises(ValueError, match="cannot commit 1 elements: 0 are reserved"):
        ring.commit(1)
    ring.reserve(2)
    with pytest.raises(ValueError, match="cannot commit 3 elements: 2 are reserved"):
        ring.commit(3)
    with pytest.raises(ValueError, match="cannot commit -1"):
        ring.commit(-1)
    ring.commit(2)
    with pytest.raises(ValueError, match="0 are reserved"):
        ring.commit(1)
    with pytest.raises(ValueError, match="cannot release 1 elements: 0 are peeked"):
        ring.release(1)
    ring.peek(1)
    with pytest.raises(ValueError, match="cannot release 2 elements: 1 are peeked"):
        ring.release(2)
    assert len(ring) == 2


def test_views():
    ring = BufferRing(4, 8)
    assert not ring.reserve(2).readonly
    assert ring.reserve(2).nbytes == 16
    ring.commit(2)
    assert ring.peek().readonly
    with pytest.raises(TypeError):
        ring.peek()[0] = 1
    view = ring.peek()
    del ring
    gc.collect()
    assert bytes(view) == bytes(16)


def test_capacity_of_one():
    ring = BufferRing(1, 2)
    for i in range(5):
        assert put(ring, bytes([i, i])) == 2
        assert ring.reserve().nbytes == 0
        assert take(ring) == bytes([i, i])
    assert ring.full_count == 5


def test_memory_the_caller_brings():
    segment = shared_memory.SharedMemory(create=True, size=4096)
    try:
        ring = BufferRing(1024, 4, memory=segment.buf)
        put(ring, b"shared memory..!")
        assert bytes(segment.buf[:16]) == b"shared memory..!"
        del ring
    finally:
        segment.close()
        segment.unlink()
    for memory in (mmap.mmap(-1, 4096), np.zeros(1024, np.uint32), np.zeros((64, 64), np.uint8)):
        ring = BufferRing(1024, 4, memory=memory)
        put(ring, b"abcd")
        assert bytes(memoryview(memory).cast("B")[:4]) == b"abcd"


def test_brought_memory_is_held_and_let_go():
    memory = bytearray(8)
    ring = BufferRing(8, memory=memory)
    with pytest.raises(BufferError):
        memory.append(0)
    view = ring.peek()
    del ring
    with pytest.raises(BufferError):
        memory.append(0)
    del view
    memory.append(0)
    with pytest.raises(ValueError):
        BufferRing(16, memory=memory)
    memory.append(0)


@pytest.mark.parametrize("arguments, message", [
    ((0,), "capacity is 0"),
    ((-4,), "capacity is -4"),
    ((1000,), "capacity is 1000, but must be a power of two.*: try 1024"),
    ((1 << 41,), "capacity is"),
    ((8, 0), "elem_size is 0"),
    ((8, -1), "elem_size is -1"),
    ((8, 4, bytearray(31)), "memory has 31 bytes, but capacity \\* elem_size is 32"),
    ((8, 1, bytes(8)), "memory must be writable"),
    ((8, 1, memoryview(bytearray(16))[::2]), "memory must be writable and C-contiguous"),
])
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        BufferRing(*arguments)


def test_wrong_types_and_too_much():
    with pytest.raises(TypeError):
        BufferRing(8, memory=3)
    with pytest.raises(MemoryError, match="lower"):
        BufferRing(1 << 40, 1 << 20)
    with pytest.raises(ValueError, match="n is 0"):
        BufferRing(8).reserve(0)
    with pytest.raises(ValueError, match="n is -1"):
        BufferRing(8).peek(-1)


def test_bursts_of_u32():
    ring = BufferRing(64, 4)
    assert _cycle_u32(ring, 1000, 50) == 50_000
    assert ring.full_count == 0
    assert _cycle_u32(ring, 1, 100) == 64
    assert ring.full_count == 1


@pytest.mark.parametrize("copy", [True, False], ids=["push and pop", "in place"])
@pytest.mark.parametrize("capacity, burst, count", [(1, 1, 20_000), (2, 3, 50_000), (64, 7, 500_000),
                                                    (64, 256, 1_000_000), (4096, 32, 2_000_000)])
def test_two_threads(capacity, burst, count, copy):
    """Fewer places than values: neither half returns all of them unless both run at once, without the GIL."""
    ring = BufferRing(capacity, 4)
    with ThreadPoolExecutor(2) as pool:
        sent = pool.submit(_stress_producer, ring, count, burst, copy)
        right = pool.submit(_stress_consumer, ring, count, burst, copy)
        assert sent.result() == count
        assert right.result() == count
    assert len(ring) == 0


def test_the_check_of_two_threads_can_fail():
    ring = BufferRing(8, 4)
    assert _stress_producer(ring, 100, 1, patience=10) == 8
    view = memoryview(ring.peek())
    assert _stress_consumer(BufferRing(8, 4), 8, patience=10) == 0
    spoiled = BufferRing(8, 4)
    put(spoiled, bytes(view[:4]) + bytes(4) + bytes(view[8:]))
    assert _stress_consumer(spoiled, 8, patience=10) == 7


class RingModel(RuleBasedStateMachine):
    @initialize(log=st.integers(0, 5), elem_size=st.sampled_from([1, 3, 4, 64]), brought=st.booleans())
    def create(self, log, elem_size, brought):
        self.capacity, self.size = 1 << log, elem_size
        memory = bytearray(self.capacity * elem_size) if brought else None
        self.ring = BufferRing(self.capacity, elem_size, memory)
        self.model = deque()
        self.total_in = self.total_out = 0
        self.reserved, self.peeked = [], 0
        self.full = 0

    @rule(n=st.integers(1, 40), seed=st.integers(0, 255))
    def reserve(self, n, seed):
        view = self.ring.reserve(n)
        room = self.capacity - len(self.model)
        to_end = self.capacity - self.total_in % self.capacity
        expected = min(n, room, to_end)
        self.full += room == 0
        assert view.nbytes == expected * self.size
        data = bytes((seed + i) & 0xFF for i in range(view.nbytes))
        view[:] = data
        self.reserved = [data[i * self.size:(i + 1) * self.size] for i in range(expected)]

    @rule(data=st.data())
    def commit(self, data):
        n = data.draw(st.integers(0, len(self.reserved)))
        self.ring.commit(n)
        self.model.extend(self.reserved[:n])
        del self.reserved[:n]
        self.total_in += n

    @rule(n=st.integers(1, 40))
    def peek(self, n):
        view = self.ring.peek(n)
        to_end = self.capacity - self.total_out % self.capacity
        self.peeked = min(n, len(self.model), to_end)
        assert bytes(view) == b"".join(list(self.model)[:self.peeked])

    @rule(data=st.data())
    def release(self, data):
        n = data.draw(st.integers(0, self.peeked))
        self.ring.release(n)
        for _ in range(n):
            self.model.popleft()
        self.peeked -= n
        self.total_out += n

    @rule()
    def too_much(self):
        with pytest.raises(ValueError):
            self.ring.commit(len(self.reserved) + 1)
        with pytest.raises(ValueError):
            self.ring.release(self.peeked + 1)

    @invariant()
    def agrees(self):
        assert len(self.ring) == len(self.model)
        assert self.ring.free == self.capacity - len(self.model)
        assert self.ring.full_count == self.full


TestRingModel = RingModel.TestCase
TestRingModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
