"""See cache_server.pxd."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, strlen

from iip.apps.cache cimport Item, cache_drop, cache_fini, cache_init, cache_now, item_value
from iip.engine cimport Engine, NativeHandler
from iip.wire.bytes cimport likely, unlikely

import os

from iip.errors import ConfigError

cdef enum:
    MOST_WAITING = 64 << 20       # bytes of output of one command
    KEEP = 1 << 20                # of the buffer for output


cdef class CacheServer(NativeHandler):
    """memory: bytes of the cache, items' heads included; max_item: bytes of the largest value."""

    def __cinit__(self, memory=64 << 20, max_item=1 << 20):
        if not 1024 <= max_item <= 1 << 30:
            raise ConfigError(f"max_item={max_item}: must be from 1024 to {1 << 30} bytes")
        if not 2 * max_item <= memory <= 1 << 46:
            raise ConfigError(f"memory={memory}: must be at least twice max_item={max_item} bytes")
        self.max_item = max_item
        if not cache_init(&self.cache, memory, int.from_bytes(os.urandom(8), "little")):
            raise MemoryError("no memory for the table of the cache; lower memory")
        self.started = cache_now(&self.cache)

    def __dealloc__(self):
        cache_fini(&self.cache)
        free(self.out)

    # -- connections -------------------------------------------------------------------------------------------

    cdef void tcp_accepted(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef Client* c = <Client*>calloc(1, sizeof(Client))
        if c == NULL:
            engine.abort(conn)
            return
        c.conn = conn
        engine.user(conn)[0] = <uint64_t>c
        self.clients += 1
        self.total_clients += 1

    cdef void tcp_payload(self, Engine engine, uint64_t conn, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef Client* c = <Client*>engine.user(conn)[0]
        cdef uint8_t* more
        if unlikely(c == NULL or c.closing):
            engine.consume(conn, n)
            return
        if unlikely(c.wait_len):      # its window bounds what it may send while it does not read
            more = <uint8_t*>realloc(c.late, c.late_len + n)
            if more == NULL:
                engine.abort(conn)
                return
            memcpy(more + c.late_len, data, n)
            c.late = more
            c.late_len += n
            return
        engine.consume(conn, n)
        self.read(engine, c, data, n)
        self.flush(engine, c)

    cdef void tcp_acked(self, Engine engine, uint64_t conn, uint32_t n) noexcept nogil:
        cdef Client* c = <Client*>engine.user(conn)[0]
        cdef int64_t taken
        cdef uint8_t* late
        if likely(c == NULL or c.wait_len == 0):
            return
        taken = engine.send(conn, c.waiting + c.wait_at, c.wait_len)
        if taken < 0:
            return
        c.wait_at += <uint32_t>taken
        c.wait_len -= <uint32_t>taken
        if c.wait_len:
            return
        free(c.waiting)
        c.waiting = NULL
        c.wait_at = c.wait_room = 0
        if c.closing:
            engine.close_connection(conn)
            return
        late, n = c.late, c.late_len
        c.late = NULL
        c.late_len = 0
        if n:
            engine.consume(conn, n)
            self.read(engine, c, late, n)
            free(late)
            self.flush(engine, c)

    cdef void tcp_shutdown(self, Engine engine, uint64_t conn) noexcept nogil:
        cdef Client* c = <Client*>engine.user(conn)[0]
        if c != NULL and c.wait_len:
            c.closing = True
        else:
            engine.close_connection(conn)

    cdef void tcp_closed(self, Engine engine, uint64_t conn, int reason) noexcept nogil:
        cdef uint64_t* user = engine.user(conn)
        cdef Client* c
        if user == NULL or user[0] == 0:
            return
        c = <Client*>user[0]
        user[0] = 0
        if c.item != NULL:
            cache_drop(&self.cache, c.item)
        free(c.line)
        free(c.late)
        free(c.waiting)
        free(c)
        self.clients -= 1

    # -- output: collected, and sent when all that came was read ---------------------------------------------------

    cdef void say(self, Client* c, const void* p, uint32_t n) noexcept nogil:
        cdef uint8_t* more
        if unlikely(n > self.out_room - self.out_len):
            more = NULL if self.out_len + n > <uint32_t>MOST_WAITING else <uint8_t*>realloc(self.out, 2 * (self.out_len + n) + OUT)
            if more == NULL:
                c.broken = c.closing = True
                return
            self.out = more
            self.out_room = 2 * (self.out_len + n) + OUT
        memcpy(self.out + self.out_len, p, n)
        self.out_len += n

    cdef void text(self, Client* c, const char* s) noexcept nogil:
        self.say(c, s, <uint32_t>strlen(s))

    cdef void number(self, Client* c, uint64_t n) noexcept nogil:
        cdef uint8_t digits[20]
        cdef uint32_t at = 20
        while True:
            at -= 1
            digits[at] = <uint8_t>(c"0" + n % 10)
            n //= 10
            if n == 0:
                break
        self.say(c, digits + at, 20 - at)

    cdef void flush(self, Engine engine, Client* c) noexcept nogil:
        """Send what was said, as far as the send buffer takes it."""
        if self.out_len:
            _send(engine, c, self.out, self.out_len)
            self.out_len = 0
            if unlikely(self.out_room > <uint32_t>KEEP):
                free(self.out)
                self.out = NULL
                self.out_room = 0
        if unlikely(c.broken):
            engine.abort(c.conn)
        elif unlikely(c.closing) and c.wait_len == 0:
            engine.close_connection(c.conn)

    # -- input -------------------------------------------------------------------------------------------------

    cdef void read(self, Engine engine, Client* c, const uint8_t* data, uint32_t n) noexcept nogil:
        cdef const uint8_t* end
        cdef uint32_t used
        cdef uint8_t* late
        while n and not c.closing:
            if unlikely(c.wait_len):          # later: the client does not read its answers
                late = <uint8_t*>malloc(n)
                if late != NULL:
                    memcpy(late, data, n)
                    c.late, c.late_len = late, n
                return
            if c.skip:
                used = min(n, c.skip)
                c.skip -= used
            elif c.item != NULL:
                used = self.fill(c, data, n)
            else:
                end = <const uint8_t*>memchr(data, c"\n", n)
                used = n if end == NULL else <uint32_t>(end - data) + 1
                if likely(end != NULL and c.line_len == 0):
                    self.command(c, data, used)
                else:
                    _keep(self, c, data, used, end != NULL)
            data += used
            n -= used
            if unlikely(self.out_len > <uint32_t>OUT):
                self.flush(engine, c)

    cdef uint32_t fill(self, Client* c, const uint8_t* data, uint32_t n) noexcept nogil:
        """Bytes of the value that is being received."""
        cdef Item* i = c.item
        n = min(n, i.n + 2 - c.filled)
        memcpy(item_value(i) + c.filled, data, n)
        c.filled += n
        if c.filled == i.n + 2:
            self.complete(c)
        return n

    cdef void complete(self, Client* c) noexcept nogil:
        cdef Item* i = c.item
        cdef const uint8_t* end = item_value(i) + i.n
        c.item = NULL
        if end[0] != c"\r" or end[1] != c"\n":
            cache_drop(&self.cache, i)
            self.text(c, b"CLIENT_ERROR bad data chunk\r\n")
            c.closing = True      # where the next command begins nobody knows
            return
        self.store(c, i)

    cdef void command(self, Client* c, const uint8_t* p, uint32_t n) noexcept nogil:
        """A line, its end included."""

    cdef void store(self, Client* c, Item* i) noexcept nogil:
        """A value was received."""


cdef void _send(Engine engine, Client* c, const uint8_t* p, uint32_t n) noexcept nogil:
    """Send what the send buffer takes, keep the rest."""
    cdef int64_t taken = 0
    cdef uint8_t* more
    cdef uint32_t need
    if c.wait_len == 0:
        taken = engine.send(c.conn, p, n)
        if likely(taken < 0 or taken == n):
            return
    p += taken
    n -= <uint32_t>taken
    need = c.wait_at + c.wait_len + n
    if need > c.wait_room:
        more = NULL if need > <uint32_t>MOST_WAITING else <uint8_t*>realloc(c.waiting, need + OUT)
        if more == NULL:
            c.broken = True
            return
        c.waiting, c.wait_room = more, need + OUT
    memcpy(c.waiting + c.wait_at + c.wait_len, p, n)
    c.wait_len += n


cdef void _keep(CacheServer self, Client* c, const uint8_t* data, uint32_t n, bint whole) noexcept nogil:
    """A piece of a line."""
    cdef uint8_t* line
    cdef uint32_t length = c.line_len + n
    if length > <uint32_t>MAX_LINE:
        self.text(c, b"CLIENT_ERROR line too long\r\n")
        c.closing = True
        return
    if c.line == NULL:
        c.line = <uint8_t*>malloc(MAX_LINE)
        if c.line == NULL:
            c.closing = True
            return
    memcpy(c.line + c.line_len, data, n)
    c.line_len = length
    if whole:
        line = c.line
        c.line = NULL
        c.line_len = 0
        self.command(c, line, length)
        free(line)
