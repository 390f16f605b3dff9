"""The Internet checksum against the examples of RFC 1071 and RFC 1624 and a model that adds word by word."""
import array
import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iip.wire.checksum import _choose, _small, checksum, checksum_chain, pseudo_header, update, update32

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
RFC1071 = bytes.fromhex("00 01 f2 03 f4 f5 f6 f7")
# An IPv4 header with a correct checksum, 0xb861: 192.168.0.1 to 192.168.0.199, UDP.
HEADER = bytes.fromhex("45 00 00 73 00 00 40 00 40 11 b8 61 c0 a8 00 01 c0 a8 00 c7")


def naive_sum(data, initial=0):
    data = bytes(data)
    total = initial
    for i, byte in enumerate(data):
        total += byte if i & 1 else byte << 8
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def naive(data, initial=0):
    return 0xFFFF - naive_sum(data, initial)


@pytest.fixture(params=["generic", "best"], autouse=True)
def code(request):
    """Everything is tested with the code for any processor and with the best for this one."""
    _choose(request.param == "generic")
    yield
    _choose(False)


def test_rfc1071_section_3_example():
    assert checksum(RFC1071) == 0xFFFF - 0xDDF2


def test_ipv4_header():
    assert checksum(HEADER) == 0
    assert checksum(HEADER[:10] + b"\0\0" + HEADER[12:]) == 0xB861
    assert _small(HEADER) == 0


def test_empty_and_all_zero_and_all_ones():
    assert checksum(b"") == 0xFFFF
    for n in range(1, 300):
        assert checksum(bytes(n)) == 0xFFFF
        assert checksum(b"\xff" * (2 * n)) == 0    # minus zero, and not plus zero


def test_every_alignment_and_length():
    data = random.Random(1071).randbytes(64 + 200)
    start = np.frombuffer(bytearray(data), np.uint8)
    shift = -start.ctypes.data % 64
    room = np.zeros(len(data) + 128, np.uint8)
    shift = -room.ctypes.data % 64
    room[shift:shift + len(data)] = start
    for alignment in range(64):
        for n in range(201):
            at = shift + alignment
            assert checksum(room[at:at + n]) == naive(data[alignment:alignment + n]), (alignment, n)


def test_neighbouring_bytes_do_not_count():
    for n in range(1, 140):
        room = bytearray(b"\xa5" * (n + 64))
        room[32:32 + n] = bytes(n)
        assert checksum(memoryview(room)[32:32 + n]) == 0xFFFF


@pytest.mark.parametrize("n", [255, 256, 257, 1459, 1460, 1500, 9000, 65535, 65536, 65537, 1 << 20])
def test_long(n):
    data = random.Random(n).randbytes(n)
    assert checksum(data) == naive(data)
    assert checksum(b"\xff" * n) == naive(b"\xff" * n)


@given(st.binary(max_size=600), U32)
def test_any_bytes_from_any_initial_sum(data, initial):
    assert checksum(data, initial) == naive(data, initial)


@given(st.binary(max_size=60).filter(lambda b: len(b) % 2 == 0))
def test_small_headers(data):
    assert _small(data) == naive(data)


@given(st.lists(st.binary(max_size=90), max_size=8), U16)
def test_chain_equals_the_joined_bytes(pieces, initial):
    assert checksum_chain(pieces, initial) == naive(b"".join(pieces), initial)


def test_chain_cut_everywhere():
    data = random.Random(7).randbytes(150)
    for i in range(len(data) + 1):
        for j in (i, min(i + 1, 150), min(i + 7, 150), 150):
            assert checksum_chain([data[:i], data[i:j], data[j:]]) == naive(data)


@given(st.binary(min_size=2, max_size=200).filter(lambda b: len(b) % 2 == 0))
def test_storing_the_checksum_makes_the_whole_zero(data):
    whole = data + checksum(data).to_bytes(2, "big")
    assert checksum(whole) == 0


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.integers(0, 255), U16,
       st.binary(max_size=64))
def test_pseudo_header_ipv4(src, dst, proto, length, segment):
    laid_out = src + dst + bytes([0, proto]) + length.to_bytes(2, "big")
    assert pseudo_header(src, dst, proto, length) == naive_sum(laid_out)
    assert checksum(segment, pseudo_header(src, dst, proto, length)) == naive(laid_out + segment)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.integers(0, 255), U32,
       st.binary(max_size=64))
def test_pseudo_header_ipv6(src, dst, proto, length, segment):
    laid_out = src + dst + length.to_bytes(4, "big") + bytes([0, 0, 0, proto])
    assert pseudo_header(src, dst, proto, length) == naive_sum(laid_out)
    assert checksum(segment, pseudo_header(src, dst, proto, length)) == naive(laid_out + segment)


def test_rfc1624_section_4_example():
    """The old method of RFC 1141 gives 0xffff here."""
    assert update(0xDD2F, 0x5555, 0x3285) == 0x0000


@given(st.binary(min_size=20, max_size=60).filter(lambda b: len(b) % 4 == 0), st.data())
def test_update_equals_a_fresh_checksum(data, draw):
    at = 2 * draw.draw(st.integers(0, len(data) // 2 - 1))
    new = draw.draw(U16)
    changed = data[:at] + new.to_bytes(2, "big") + data[at + 2:]
    got = update(naive(data), int.from_bytes(data[at:at + 2], "big"), new)
    if any(changed):
        assert got == naive(changed)
    else:    # plus zero and minus zero: see below
        assert got in (0, 0xFFFF)


@given(st.binary(min_size=20, max_size=60).filter(lambda b: len(b) % 4 == 0), st.data())
def test_update32_equals_a_fresh_checksum(data, draw):
    at = 2 * draw.draw(st.integers(0, len(data) // 2 - 2))
    new = draw.draw(U32)
    changed = data[:at] + new.to_bytes(4, "big") + data[at + 4:]
    got = update32(naive(data), int.from_bytes(data[at:at + 4], "big"), new)
    if any(changed):
        assert got == naive(changed)
    else:
        assert got in (0, 0xFFFF)


def test_update_at_the_two_zeros():
    """RFC 1624 §3: a checksum of real data, which is never all zero, is never 0xffff, and an update keeps
    it so. Only when the last non-zero word is changed to zero do the two methods part."""
    for rest in (0x0001, 0x1234, 0xFFFE, 0xFFFF):
        for old in (0x0000, 0x0001, 0x7FFF, 0xFFFE, 0xFFFF):
            for new in (0x0000, 0x0001, 0x7FFF, 0xFFFE, 0xFFFF):
                check = naive(rest.to_bytes(2, "big") + old.to_bytes(2, "big"))
                fresh = naive(rest.to_bytes(2, "big") + new.to_bytes(2, "big"))
                assert fresh != 0xFFFF
                assert update(check, old, new) == fresh
                assert update32(check, old, new) == fresh
    assert update(naive(b"\x12\x34"), 0x1234, 0x0000) == 0x0000
    assert naive(b"\x00\x00") == 0xFFFF
    assert update(0xFFFF, 0x0000, 0x0000) == 0x0000    # no change, but a minus zero comes out as plus zero


@given(U16, U16, U16)
def test_update_there_and_back(check, old, new):
    back = update(update(check, old, new), new, old)
    assert back % 0xFFFF == check % 0xFFFF    # equal but for the two zeros


def test_bytes_like_objects():
    data = os.urandom(64)
    expected = naive(data)
    for buffer in (data, bytearray(data), memoryview(data), array.array("I", data), np.frombuffer(data, "<u8"),
                   np.frombuffer(data, np.uint8).reshape(8, 8)):
        assert checksum(buffer) == expected
        assert checksum_chain([b"a", buffer]) == naive(b"a" + data)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="not C-contiguous"):
        checksum(memoryview(b"abcdef")[::2])
    with pytest.raises(ValueError, match="not C-contiguous"):
        checksum(np.zeros((4, 4))[:, 1])
    with pytest.raises(TypeError):
        checksum("text")
    with pytest.raises(ValueError, match="initial is -1"):
        checksum(b"", -1)
    with pytest.raises(ValueError, match="initial is"):
        checksum(b"", 1 << 32)
    with pytest.raises(ValueError, match="old is 65536"):
        update(0, 65536, 0)
    with pytest.raises(ValueError, match="src has 4 bytes and dst 16"):
        pseudo_header(bytes(4), bytes(16), 6, 20)
    with pytest.raises(ValueError, match="proto is 256"):
        pseudo_header(bytes(4), bytes(4), 256, 20)
    with pytest.raises(ValueError, match="length is 65536"):
        pseudo_header(bytes(4), bytes(4), 6, 65536)
