"""Packets by the ten thousands: one template, and columns of what differs."""
from __future__ import annotations

import ipaddress

import numpy as np

from tests.harness import packets as p


def _fold(total):
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).astype(">u2")


def _put(rows, at, values, width):
    values = np.asarray(values, dtype=np.uint64)
    for i in range(width):
        rows[:, at + i] = (values >> np.uint64(8 * (width - 1 - i))).astype(np.uint8)


def forge(template, n, *, sources=None, sport=None, dport=None, seq=None, ack=None, flags=None, wnd=None):
    """`n` copies of a TCP packet (bytes) with the columns given in them, each an array of `n` or one number, and their
    checksums. `sources`: bytes of addresses, `n` rows."""
    if len(template) % 2:
        raise ValueError("an even number of bytes, please")
    version = template[0] >> 4
    header = 20 if version == 4 else 40
    rows = np.tile(np.frombuffer(template, dtype=np.uint8), (n, 1))
    if sources is not None:
        at = 12 if version == 4 else 8
        rows[:, at:at + sources.shape[1]] = sources
    for values, at, width in ((sport, 0, 2), (dport, 2, 2), (seq, 4, 4), (ack, 8, 4), (flags, 13, 1), (wnd, 14, 2)):
        if values is not None:
            _put(rows, header + at, values, width)
    rows[:, header + 16:header + 18] = 0
    words = rows.view(">u2").astype(np.uint32)
    pseudo = words[:, 6 if version == 4 else 4:header // 2].sum(axis=1) + p.TCP + len(template) - header
    value = _fold(pseudo + words[:, header // 2:].sum(axis=1))
    rows[:, header + 16:header + 18] = value[:, None].view(np.uint8).reshape(n, 2)
    if version == 4:
        rows[:, 10:12] = 0
        value = _fold(rows[:, :20].copy().view(">u2").astype(np.uint32).sum(axis=1))
        rows[:, 10:12] = value[:, None].view(np.uint8).reshape(n, 2)
    raw = rows.tobytes()
    size = len(template)
    return [raw[i:i + size] for i in range(0, n * size, size)]


def template(source, destination, sport, dport, flags, *, data=b"", options=b"", seq=0, ack=0, wnd=65535):
    return p.ip(source, destination, p.TCP, p.tcp(source, destination, sport, dport, seq, ack, flags, wnd, options=options,
                                                  data=data))


def strangers(rng, n, version):
    """Addresses of `n` hosts all over the world."""
    if version == 4:
        rows = rng.integers(0, 256, (n, 4), dtype=np.uint8)
        rows[:, 0] = rng.integers(20, 120, n, dtype=np.uint8)
        return rows
    rows = rng.integers(0, 256, (n, 16), dtype=np.uint8)
    rows[:, :2] = np.frombuffer(ipaddress.ip_address("2001::").packed[:2], dtype=np.uint8)
    return rows
