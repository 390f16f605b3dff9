"""The Toeplitz hash for Python: with any key, and the symmetric one; toeplitz.pxd has the latter for C callers."""
import ipaddress

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

SYMMETRIC_KEY = bytes.fromhex("6d5a") * 20


def toeplitz(data, key=SYMMETRIC_KEY):
    """The hash of bytes: for every bit that is set the 32 bits of the key that begin there are added, without carry."""
    if len(key) < len(data) + 4:
        raise ValueError(f"key: {len(key)} bytes are too short for {len(data)} of data; it needs {len(data) + 4}")
    bits, found = int.from_bytes(key, "big"), 0
    for i in range(8 * len(data)):
        if data[i >> 3] >> (7 - (i & 7)) & 1:
            found ^= bits >> (8 * len(key) - 32 - i) & 0xFFFFFFFF
    return found


def symmetric_hash(source, destination, source_port=0, destination_port=0):
    """The symmetric hash of a packet's addresses and ports."""
    cdef bytes both = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    cdef const uint8_t* p = both
    cdef uint16_t word, total = 0
    cdef Py_ssize_t i
    for i in range(0, len(both), 2):
        memcpy(&word, p + i, 2)
        total ^= word
    return toeplitz_words(total, source_port, destination_port)


def symmetric_queue(source, destination, source_port, destination_port, queues):
    """The queue to which both directions of a connection belong."""
    return rss_queue(symmetric_hash(source, destination, source_port, destination_port), queues)
