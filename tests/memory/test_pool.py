"""The packet pool: cells, views, chains, reference counts, lent and brought memory."""
import gc
import mmap
import sys

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from iip.errors import ConfigError
from iip.memory.pool import PacketPool


@pytest.fixture
def pool():
    pool = PacketPool(packets=8, packet_size=256, headroom=128)
    yield pool
    assert pool.full


def test_a_new_pool_is_full():
    pool = PacketPool(packets=4, packet_size=512, headroom=192)
    assert (pool.packets, pool.packet_size, pool.headroom, pool.views) == (4, 512, 192, 8)
    assert (pool.free_packets, pool.free_views, pool.exhausted, pool.full) == (4, 8, 0, True)


def test_alloc_and_free(pool):
    a = pool.alloc(b"hello")
    assert pool.bytes(a) == b"hello"
    assert pool.pieces(a) == 1
    assert not pool.full and pool.free_packets == 7
    pool.free(a)
    assert pool.full


def test_an_empty_packet(pool):
    a = pool.alloc()
    assert pool.bytes(a) == b"" and len(pool.view(a)) == 0
    pool.free(a)


def test_data_that_does_not_fit_is_refused(pool):
    a = pool.alloc(bytes(128))
    pool.free(a)
    with pytest.raises(ValueError, match="129 bytes does not fit"):
        pool.alloc(bytes(129))


def test_any_contiguous_buffer_is_data(pool):
    for data in (bytearray(b"abcd"), memoryview(b"abcd"), np.frombuffer(b"abcd", dtype=np.uint16)):
        a = pool.alloc(data)
        assert pool.bytes(a) == b"abcd"
        pool.free(a)
    with pytest.raises((TypeError, BufferError)):
        pool.alloc(memoryview(b"abcd")[::2])
    with pytest.raises(TypeError):
        pool.alloc("text")


def test_exhaustion_of_packets_is_counted_and_passes(pool):
    taken = [pool.alloc() for _ in range(8)]
    assert pool.alloc() is None and pool.alloc(b"x") is None
    assert pool.exhausted == 2
    pool.free(taken.pop())
    a = pool.alloc()
    assert a is not None
    for i in (a, *taken):
        pool.free(i)


def test_exhaustion_of_views_is_counted_and_passes():
    pool = PacketPool(packets=2, packet_size=256, views=2)
    a = pool.alloc(b"abcdef")
    views = [pool.slice(a, 0, 3), pool.clone(a)]
    assert pool.slice(a, 0, 1) is None and pool.clone(a) is None and pool.lend(b"x") is None
    assert pool.exhausted == 3
    for i in (a, *views):
        pool.free(i)
    assert pool.full


def test_a_clone_of_a_chain_that_runs_out_of_views_leaves_nothing_behind():
    pool = PacketPool(packets=3, packet_size=256, views=2)
    a = pool.alloc(b"a")
    for data in (b"b", b"c"):
        pool.chain(a, pool.alloc(data))
    assert pool.clone(a) is None
    assert pool.free_views == 2
    pool.free(a)
    assert pool.full


def test_the_cell_lives_as_long_as_any_view(pool):
    a = pool.alloc(b"0123456789")
    b = pool.slice(a, 2, 6)
    c = pool.slice(b, 1, 3)
    pool.free(a)
    assert pool.free_packets == 7
    assert pool.bytes(b) == b"234567" and pool.bytes(c) == b"345"
    pool.free(b)
    assert pool.free_packets == 7 and pool.bytes(c) == b"345"
    pool.free(c)


def test_a_clone_shows_the_same_bytes(pool):
    a = pool.alloc(b"abc")
    b = pool.clone(a)
    pool.view(a)[0] = ord("X")
    assert pool.bytes(b) == b"Xbc"
    pool.free(a)
    assert pool.bytes(b) == b"Xbc"
    pool.free(b)


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 6), (5, 1), (6, 0), (0, -1), (3, 3)])
def test_slices_stay_inside(pool, start, length):
    a = pool.alloc(b"01234")
    with pytest.raises(ValueError, match="outside the packet"):
        pool.slice(a, start, length)
    pool.free(a)


def test_chains(pool):
    a = pool.alloc(b"abc")
    pool.chain(a, pool.alloc(b"defg"))
    pool.chain(a, pool.alloc(b"hi"))
    assert pool.pieces(a) == 3 and pool.bytes(a) == b"abcdefghi"
    b = pool.clone(a)
    pool.trim(a, head=4, tail=1)
    assert pool.bytes(a) == b"efgh" and pool.bytes(b) == b"abcdefghi"
    pool.free(a)
    assert pool.bytes(b) == b"abcdefghi" and pool.pieces(b) == 3
    pool.free(b)


def test_a_packet_cannot_be_in_one_chain_twice(pool):
    a, b = pool.alloc(b"a"), pool.alloc(b"b")
    with pytest.raises(ValueError, match="of one chain already"):
        pool.chain(a, a)
    pool.chain(a, b)
    for head, tail in ((a, b), (b, a)):
        with pytest.raises(ValueError, match="of one chain already"):
            pool.chain(head, tail)
    assert pool.bytes(a) == b"ab"
    pool.free(a)


@pytest.mark.parametrize("head", range(8))
@pytest.mark.parametrize("tail", range(8))
def test_trim(pool, head, tail):
    a = pool.alloc(b"ab")
    pool.chain(a, pool.alloc(b"cde"))
    pool.chain(a, pool.alloc(b"f"))
    pool.trim(a, head=head, tail=tail)
    assert pool.bytes(a) == b"abcdef"[head:][:max(0, 6 - head - tail)]
    pool.free(a)


def test_linearize(pool):
    a = pool.alloc(b"abc")
    assert pool.linearize(a) == a
    pool.chain(a, pool.alloc(bytes(100)))
    b = pool.linearize(a)
    assert pool.pieces(b) == 1 and pool.bytes(b) == b"abc" + bytes(100)
    assert pool.free_packets == 7
    pool.free(b)


def test_linearize_of_more_than_a_cell_leaves_the_chain(pool):
    a = pool.alloc(bytes(128))
    pool.chain(a, pool.alloc(bytes(128)))
    b = pool.linearize(a)             # the headroom is used
    assert pool.bytes(b) == bytes(256)
    pool.chain(b, pool.alloc(b"x"))
    assert pool.linearize(b) is None
    assert pool.bytes(b) == bytes(256) + b"x"
    pool.free(b)


def test_linearize_without_a_free_packet_leaves_the_chain(pool):
    a = pool.alloc(b"a")
    pool.chain(a, pool.alloc(b"b"))
    rest = [pool.alloc() for _ in range(6)]
    assert pool.linearize(a) is None and pool.exhausted == 1
    assert pool.bytes(a) == b"ab"
    for i in (a, *rest):
        pool.free(i)


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda n: np.zeros(n // 8)])
def test_lent_memory_is_referenced_until_the_last_view_goes(pool, kind):
    data = kind(8000)
    before = sys.getrefcount(data)
    a = pool.lend(data)
    b = pool.slice(a, 10, 5000)
    assert len(pool.bytes(a)) == 8000 and pool.free_packets == 8
    pool.free(a)
    gc.collect()
    assert sys.getrefcount(data) > before
    pool.free(b)
    assert sys.getrefcount(data) == before


def test_lent_memory_is_given_back_with_the_pool():
    data = bytearray(1000)
    pool = PacketPool(packets=1, packet_size=256)
    pool.free(pool.lend(data))
    with pytest.raises(BufferError):
        held = pool.lend(data)
        data.append(1)
    pool.free(held)
    data.append(1)


def test_nothing_cannot_be_lent(pool):
    with pytest.raises(ValueError, match="empty buffer"):
        pool.lend(b"")


def test_freed_packets_are_refused(pool):
    a = pool.alloc(b"abc")
    b = pool.slice(a, 0, 2)
    pool.free(a)
    for call in (pool.free, pool.bytes, pool.clone, pool.view, pool.pieces, pool.trim, pool.linearize):
        with pytest.raises(ValueError, match="is not in use"):
            call(a)
    assert pool.bytes(b) == b"ab"
    pool.free(b)
    for index in (a, b, -1, 10**6, 8 + 16):
        with pytest.raises(ValueError, match="is not in use"):
            pool.free(index)


def test_memory_of_the_caller():
    memory = np.zeros(4 * 256, dtype=np.uint8)
    pool = PacketPool(packets=4, packet_size=256, headroom=128, memory=memory)
    a = pool.alloc(b"\xaa" * 100)
    assert np.count_nonzero(memory == 0xAA) == 100 and np.all(memory[128:228] == 0xAA)
    pool.view(a)[:] = 0xBB
    assert np.count_nonzero(memory == 0xBB) == 100
    pool.free(a)
    before = sys.getrefcount(memory)
    del pool
    assert sys.getrefcount(memory) < before


def test_mapped_memory():
    with mmap.mmap(-1, 4 * 2048) as memory:
        pool = PacketPool(packets=4, packet_size=2048, memory=memory)
        a = pool.alloc(b"xyz")
        assert memory.find(b"xyz") == 128
        pool.free(a)
        del pool


@pytest.mark.parametrize(("settings", "message"), [
    ({"packets": 0}, "packets=0"), ({"packets": 1 << 27}, "packets="), ({"packet_size": 255}, "packet_size=255"),
    ({"packet_size": 1000}, "multiple of 64"), ({"packet_size": 131072}, "packet_size="), ({"headroom": 100}, "headroom=100"),
    ({"packet_size": 256, "headroom": 129}, "headroom=129"), ({"views": 0}, "views=0"),
    ({"packets": 4, "packet_size": 256, "memory": bytearray(1023)}, "bring at least 1024")])
def test_wrong_settings_name_themselves(settings, message):
    with pytest.raises(ConfigError, match=message):
        PacketPool(**settings)


def test_read_only_memory_is_refused():
    with pytest.raises((ConfigError, TypeError, ValueError, BufferError)):
        PacketPool(packets=1, packet_size=256, memory=bytes(256))


class Model(RuleBasedStateMachine):
    """Any order of calls: contents as in a model of byte strings, and the counts of free packets and views."""

    packets = Bundle("packets")
    lengths = st.integers(0, 150)

    @initialize(n=st.integers(1, 12), views=st.integers(1, 12))
    def make(self, n, views):
        self.pool = PacketPool(packets=n, packet_size=256, headroom=128, views=views)
        self.model = {}

    def add(self, index, content):
        if index is None:
            return -1
        assert index not in self.model
        self.model[index] = bytearray(content)
        return index

    @rule(target=packets, data=st.binary(max_size=128))
    def alloc(self, data):
        free, failed = self.pool.free_packets, self.pool.exhausted
        index = self.pool.alloc(data)
        assert (index is None) == (free == 0) == (self.pool.exhausted == failed + 1)
        return self.add(index, data)

    @rule(target=packets, data=st.binary(min_size=1, max_size=600))
    def lend(self, data):
        free = self.pool.free_views
        index = self.pool.lend(data)
        assert (index is None) == (free == 0)
        return self.add(index, data)

    @rule(target=packets, source=packets)
    def clone(self, source):
        if source not in self.model:
            return -1
        need, free = self.pool.pieces(source), self.pool.free_views
        index = self.pool.clone(source)
        assert (index is None) == (need > free)
        return self.add(index, self.model[source])

    @rule(target=packets, source=packets, start=lengths, length=lengths)
    def slice(self, source, start, length):
        if source not in self.model:
            return -1
        first = len(self.pool.view(source))
        start = min(start, first)
        length = min(length, first - start)
        free = self.pool.free_views
        index = self.pool.slice(source, start, length)
        assert (index is None) == (free == 0)
        return self.add(index, self.model[source][start:start + length])

    @rule(target=packets, head=consumes(packets), tail=consumes(packets))
    def chain(self, head, tail):
        if head not in self.model:
            return tail
        if tail not in self.model or head == tail:
            return head
        self.pool.chain(head, tail)
        self.model[head] += self.model.pop(tail)
        return head

    @rule(source=packets, head=lengths, tail=lengths)
    def trim(self, source, head, tail):
        if source in self.model:
            content = self.model[source]
            self.pool.trim(source, head=head, tail=tail)
            self.model[source] = content[head:][:max(0, len(content) - head - tail)]

    @rule(target=packets, source=consumes(packets))
    def linearize(self, source):
        if source not in self.model:
            return -1
        content = self.model[source]
        index = self.pool.linearize(source)
        if index is None:
            assert len(content) > 256 or self.pool.free_packets == 0
            return source
        assert self.pool.pieces(index) == 1
        del self.model[source]
        return self.add(index, content)

    @rule(source=consumes(packets))
    def free(self, source):
        if source in self.model:
            self.pool.free(source)
            del self.model[source]

    @invariant()
    def contents(self):
        for index, content in getattr(self, "model", {}).items():
            assert self.pool.bytes(index) == content

    def teardown(self):
        if hasattr(self, "pool"):
            for index in self.model:
                self.pool.free(index)
            assert self.pool.full


TestModel = Model.TestCase
TestModel.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
