"""What the application asks for (RFC 9293 §3.9.1). Nothing is sent here: the output phase does that."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from iip.net.types cimport Addr
from iip.tcp.tcb cimport Tcb, Tcp


cdef Tcb* user_open(Tcp* s, const Addr* local, const Addr* remote, uint16_t lport, uint16_t rport,
                    int* error) noexcept nogil
cdef int64_t user_send(Tcp* s, Tcb* t, const uint8_t* data, uint32_t n) noexcept nogil
cdef int64_t user_send_owned(Tcp* s, Tcb* t, uint32_t i) noexcept nogil
cdef void user_starved(Tcp* s, Tcb* t) noexcept nogil
cdef int64_t user_send_packet(Tcp* s, Tcb* t, uint32_t owner, uint32_t off, uint32_t n) noexcept nogil
cdef void user_consume(Tcp* s, Tcb* t, uint32_t n) noexcept nogil
cdef void user_shutdown(Tcp* s, Tcb* t) noexcept nogil
cdef void user_close(Tcp* s, Tcb* t) noexcept nogil
cdef void user_abort(Tcp* s, Tcb* t) noexcept nogil
cdef void user_fastopen(Tcp* s, Tcb* t) noexcept nogil
cdef void user_accept(Tcp* s, Tcb* t, bint accepted) noexcept nogil
cdef uint32_t user_send_room(Tcp* s, Tcb* t) noexcept nogil

cdef enum:
    OPEN_OK = 0
    OPEN_NO_ROUTE
    OPEN_IN_USE
    OPEN_NO_PORT
    OPEN_NO_ROOM
