"""The handler: its callbacks are C functions that the engine calls without the GIL."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from iip cimport Engine, NativeHandler, SynInfo, check_api

check_api()


cdef class Echo(NativeHandler):
    """Sends back what comes. What the peer has not taken back is not consumed, so its window closes and nothing
    piles up here: as long as Config.send_buffer is no smaller than Config.receive_buffer, all of it fits."""

    cdef readonly uint64_t connections
    cdef readonly uint64_t echoed         # bytes
    cdef readonly uint64_t failed         # connections ended because the packet pool was empty

    cdef bint tcp_accept(self, Engine engine, const SynInfo* syn) noexcept nogil:
        return syn.local_port == 7

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        self.connections += 1

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        if engine.send(conn, data, n) == n:
            self.echoed += n
        else:
            self.failed += 1
            engine.abort(conn)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        engine.consume(conn, n)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        engine.close_connection(conn)
