"""A memcached-compatible cache server."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from iip.apps.cache_server cimport CacheServer

cdef enum:
    MAX_TOKENS = 32


cdef struct Token:
    const uint8_t* p
    uint32_t n


cdef class Memcached(CacheServer):
    cdef Token tokens[MAX_TOKENS]
    cdef readonly uint64_t gets
    cdef readonly uint64_t hits
    cdef readonly uint64_t sets
