"""Raw memory for tables: zeroed, on a cache line, touched only where it is used; and views of it for Python."""
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

cdef enum:
    CACHE_LINE = 64


cdef inline void* zalloc_lines(size_t count, size_t size) noexcept nogil:
    """`count * size` zero bytes that start on a cache line, or NULL. The C library takes large blocks from the
    kernel, which supplies a page when it is first touched. To be freed by `free_lines` only."""
    cdef size_t n
    cdef char* base
    cdef char* p
    if size and count > (<size_t>-1 - 2 * CACHE_LINE) // size:
        return NULL
    n = count * size
    base = <char*>calloc(1, n + 2 * CACHE_LINE)
    if base is NULL:
        return NULL
    p = base + 2 * CACHE_LINE - <size_t>base % CACHE_LINE
    (<void**>(p - sizeof(void*)))[0] = base    # at least 65 bytes lie before p
    return p


cdef inline void free_lines(void* p) noexcept nogil:
    if p is not NULL:
        free((<void**>(<char*>p - sizeof(void*)))[0])


cdef class Window:
    """Bytes at an address, as an object with the buffer protocol that keeps their owner alive."""
    cdef object owner
    cdef uint8_t* p
    cdef Py_ssize_t n
    cdef bint readonly


cdef object window(object owner, uint8_t* p, Py_ssize_t n, bint readonly)
