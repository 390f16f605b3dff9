"""Raw memory for tables: zeroed, on a cache line, touched only where it is used; and views of it for Python."""
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif
    #if defined(__linux__) && defined(MADV_HUGEPAGE)
    static inline void iip_huge_pages(char *p, size_t n)
    {
        const size_t page = (size_t)2 << 20;
        char *begin = p + (page - 1 - ((size_t)p - 1) % page);
        char *end = p + n - ((size_t)p + n) % page;
        if (n >= 2 * page && begin < end)
            madvise(begin, (size_t)(end - begin), MADV_HUGEPAGE);
    }
    #else
    #define iip_huge_pages(p, n) ((void)(p))
    #endif
    """
    void huge_pages "iip_huge_pages"(char* p, size_t n) noexcept nogil

cdef enum:
    CACHE_LINE = 64


cdef inline void* zalloc_lines(size_t count, size_t size) noexcept nogil:
    """`count * size` zero bytes that start on a cache line, or NULL. The C library takes large blocks from the
    kernel, which supplies a page when it is first touched, of 2 MiB if it can: tables of 4 MiB and more are looked up
    at random, and no TLB holds so many small ones. To be freed by `free_lines` only."""
    cdef size_t n
    cdef char* base
    cdef char* p
    if size and count > (<size_t>-1 - 2 * CACHE_LINE) // size:
        return NULL
    n = count * size
    base = <char*>calloc(1, n + 2 * CACHE_LINE)
    if base is NULL:
        return NULL
    huge_pages(base, n + 2 * CACHE_LINE)
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
