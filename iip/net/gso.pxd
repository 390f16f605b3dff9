"""Segmentation in software (GSO): what a device with TSO does, done as late as possible."""
from libc.stdint cimport uint32_t
from iip.memory.pool cimport Pool


cdef void finish_checksum(Pool* pool, uint32_t i, uint32_t caps) noexcept nogil
cdef int gso_segment(Pool* pool, uint32_t* packet, uint32_t* out, int room, uint32_t caps) noexcept nogil
