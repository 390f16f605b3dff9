"""Views of raw memory: see raw.pxd."""
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.memoryview cimport PyMemoryView_FromObject


cdef class Window:
    """Bytes at an address that belong to another object; made by C code only."""

    def __init__(self, *args, **kwargs):
        raise TypeError("a Window is made by the object whose memory it shows")

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.p, self.n, self.readonly, flags)


cdef object window(object owner, uint8_t* p, Py_ssize_t n, bint readonly):
    """A memoryview of `n` bytes at `p`; as long as it lives, so does `owner`."""
    cdef Window w = Window.__new__(Window)
    w.owner = owner
    w.p = p
    w.n = n
    w.readonly = readonly
    return PyMemoryView_FromObject(w)
