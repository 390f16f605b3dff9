"""Slabs: indexes, generations, exhaustion; and against a model."""
import gc
import resource
import sys
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from iip.memory.slab import ObjectSlab


def test_objects_are_zero_at_first_and_keep_their_bytes():
    slab = ObjectSlab(4, 100)
    handle = slab.alloc()
    view = slab.lookup(handle)
    assert view.nbytes == 100 and not view.readonly
    assert bytes(view) == bytes(100)
    view[:] = b"x" * 100
    assert bytes(slab.lookup(handle)) == b"x" * 100


def test_objects_do_not_overlap():
    slab = ObjectSlab(50, 65)
    handles = [slab.alloc() for _ in range(50)]
    for i, handle in enumerate(handles):
        slab.lookup(handle)[:] = bytes([i]) * 65
    for i, handle in enumerate(handles):
        assert bytes(slab.lookup(handle)) == bytes([i]) * 65


@pytest.mark.parametrize("size, stride", [(1, 64), (64, 64), (65, 128), (1000, 1024)])
def test_objects_lie_on_cache_lines(size, stride):
    import numpy as np
    slab = ObjectSlab(5, size)
    assert slab.stride == stride
    at = [np.frombuffer(slab.lookup(slab.alloc()), np.uint8).ctypes.data for _ in range(5)]
    assert [a % 64 for a in at] == [0] * 5
    assert [b - a for a, b in pairwise(at)] == [stride] * 4


def test_the_slot_freed_last_is_used_next():
    slab = ObjectSlab(8, 8)
    handles = [slab.alloc() for _ in range(4)]
    slab.free(handles[1])
    slab.free(handles[3])
    assert slab.alloc() & 0xFFFFFFFF == 3
    assert slab.alloc() & 0xFFFFFFFF == 1
    assert slab.alloc() & 0xFFFFFFFF == 4
    assert slab.high_water == 5


def test_exhaustion_is_counted_and_survived():
    slab = ObjectSlab(2, 8)
    first, second = slab.alloc(), slab.alloc()
    assert slab.alloc() is None and slab.alloc() is None
    assert slab.exhausted == 2 and slab.in_use == 2
    slab.free(first)
    assert slab.alloc() is not None
    assert slab.exhausted == 2
    assert slab.lookup(second) is not None


def test_a_stale_handle_finds_nothing():
    slab = ObjectSlab(1, 8)
    seen = set()
    for _ in range(100):
        handle = slab.alloc()
        assert handle not in seen
        assert all(slab.lookup(old) is None for old in seen)
        assert slab.lookup(handle) is not None
        slab.free(handle)
        assert slab.lookup(handle) is None
        seen.add(handle)


def test_no_handle_can_be_guessed_for_a_free_slot():
    """Also not the one the slot will have next, nor one beyond the capacity, nor zero."""
    slab = ObjectSlab(2, 8)
    handle = slab.alloc()
    slab.free(handle)
    for generation in range(8):
        for index in (0, 1, 2, 0xFFFFFFFF):
            assert slab.lookup(generation << 32 | index) is None


def test_double_free():
    slab = ObjectSlab(2, 8)
    handle = slab.alloc()
    slab.free(handle)
    with pytest.raises(ValueError, match="no object in use"):
        slab.free(handle)
    assert slab.in_use == 0
    assert len({slab.alloc(), slab.alloc()}) == 2
    assert slab.alloc() is None


def test_a_view_keeps_the_slab_alive():
    slab = ObjectSlab(1, 1 << 20)
    view = slab.lookup(slab.alloc())
    view[-1] = 7
    del slab
    gc.collect()
    assert view[-1] == 7


def test_a_million_slots_cost_nothing_until_used():
    resident = _resident()
    slab = ObjectSlab(1_000_000, 1024)
    handles = [slab.alloc() for _ in range(1000)]
    assert _resident() - resident < 32 << 20
    assert slab.capacity == 1_000_000 and slab.high_water == len(set(handles)) == 1000


def _resident():
    if sys.platform == "linux":
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * resource.getpagesize()
    pytest.skip("reads /proc")


@pytest.mark.parametrize("capacity, size, name", [(0, 8, "capacity"), (-1, 8, "capacity"), (1 << 32, 8, "capacity"),
                                                  (1, 0, "object_size"), (1, (1 << 30) + 1, "object_size")])
def test_wrong_settings(capacity, size, name):
    with pytest.raises(ValueError, match=name):
        ObjectSlab(capacity, size)


def test_more_memory_than_there_can_be():
    with pytest.raises(MemoryError, match="lower"):
        ObjectSlab((1 << 32) - 1, 1 << 30)


class SlabModel(RuleBasedStateMachine):
    CAPACITY = 6

    def __init__(self):
        super().__init__()
        self.slab = ObjectSlab(self.CAPACITY, 8)
        self.live = {}
        self.dead = []
        self.stack = []
        self.used = 0
        self.exhausted = 0

    @rule(content=st.binary(min_size=8, max_size=8))
    def alloc(self, content):
        handle = self.slab.alloc()
        if len(self.live) == self.CAPACITY:
            self.exhausted += 1
            assert handle is None
            return
        if self.stack:
            index = self.stack.pop()
        else:
            index, self.used = self.used, self.used + 1
        assert handle & 0xFFFFFFFF == index
        assert handle not in self.live and handle not in self.dead
        self.slab.lookup(handle)[:] = content
        self.live[handle] = content

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def free(self, data):
        handle = data.draw(st.sampled_from(sorted(self.live)))
        self.slab.free(handle)
        del self.live[handle]
        self.dead.append(handle)
        self.stack.append(handle & 0xFFFFFFFF)

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def free_again(self, data):
        with pytest.raises(ValueError):
            self.slab.free(data.draw(st.sampled_from(self.dead)))

    @invariant()
    def agrees(self):
        assert self.slab.in_use == len(self.slab) == len(self.live)
        assert self.slab.high_water == self.used
        assert self.slab.exhausted == self.exhausted
        assert all(bytes(self.slab.lookup(h)) == content for h, content in self.live.items())
        assert all(self.slab.lookup(h) is None for h in self.dead)


TestSlabModel = SlabModel.TestCase
TestSlabModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
