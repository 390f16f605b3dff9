"""Two engines of one thread on the real clock, without the GIL."""
from libc.stdint cimport int64_t
from iip.engine cimport Engine

cdef int64_t clock_ns() noexcept nogil
cdef int pair_run(Engine a, Engine b, int64_t until, int64_t* now_out, const bint* stop) except -1 nogil
cdef void pair_settle(Engine a, Engine b) noexcept nogil
