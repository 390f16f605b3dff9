"""Addresses between Python and the engine."""
from libc.stdint cimport uint16_t
from iip.net.types cimport Addr


cdef int addr_parse(object value, Addr* out, str what) except -1
cdef object addr_object(const Addr* a)
