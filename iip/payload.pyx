"""Received bytes as Python sees them: the buffer that the packet arrived in, without a copy."""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize
from iip.memory.pool cimport NIL, pkt_hold, pkt_unhold


@cython.no_gc                     # the collector must not take the pool away before the packet is given back
cdef class Payload:
    """Bytes that arrived, read-only, in the packet that brought them.

    Supports the buffer protocol, `len()`, `bytes()`, indexing, slicing (copies) and comparison. An object kept
    beyond the callback keeps its packet out of the pool until it is dropped: keep `bytes(data)` instead
    for anything that stays.
    """

    def __cinit__(self):
        self.packet = NIL

    def __init__(self):
        raise TypeError("payloads come from the engine")

    def __dealloc__(self):
        if self.packet != NIL:
            pkt_unhold(&self.pool.c, self.packet)

    cdef void keep(self, PacketPool pool, uint32_t packet):
        """The callback is over and somebody kept the object: hold the bytes."""
        if self.packet == NIL:
            self.packet = pkt_hold(&pool.c, packet)
            self.pool = pool

    def __len__(self):
        return self.size

    def __bytes__(self):
        return PyBytes_FromStringAndSize(<const char*>self.data, self.size)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("received bytes are read-only")
        PyBuffer_FillInfo(view, self, <void*>self.data, self.size, 1, flags)

    def __getitem__(self, index):
        return memoryview(self)[index] if isinstance(index, int) else bytes(memoryview(self)[index])

    def __eq__(self, other):
        try:
            return memoryview(self) == memoryview(other)
        except TypeError:
            return NotImplemented

    __hash__ = None

    def __repr__(self):
        return f"<iip.Payload of {self.size} bytes>"


cdef Payload payload_new(const uint8_t* data, Py_ssize_t n):
    cdef Payload p = Payload.__new__(Payload)
    p.data = data
    p.size = n
    return p
