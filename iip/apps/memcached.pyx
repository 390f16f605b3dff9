"""A memcached-compatible cache server: the text and the meta protocol (protocol.txt of memcached 1.6). It belongs to one
engine; several engines have a cache each. Memory is bounded: the cache by `memory`, what waits for a client by its window."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen
from iip.apps.cache cimport (
    KEY_MAX, Item, cache_clear, cache_drop, cache_find, cache_link, cache_new, cache_now, cache_remove, item_key, item_value)
from iip.apps.cache_server cimport CacheServer, Client

cdef enum:
    SET = 1
    ADD
    REPLACE
    APPEND
    PREPEND
    CAS
    MONTH = 2592000               # seconds up to which an expiry time is relative


cdef class Memcached(CacheServer):
    """memory: bytes of the cache, items' heads included; max_item: bytes of the largest value."""

    def advance(self, seconds):
        """Set the clock forward, for tests of what expires."""
        self.cache.offset += seconds

    def stats(self):
        return {"curr_items": self.cache.items, "bytes": self.cache.bytes, "limit_maxbytes": self.cache.limit,
                "evictions": self.cache.evictions, "cmd_get": self.gets, "get_hits": self.hits, "cmd_set": self.sets,
                "expired": self.cache.expired, "refused": self.cache.refused, "curr_connections": self.clients,
                "total_connections": self.total_clients}

    cdef void command(self, Client* c, const uint8_t* p, uint32_t n) noexcept nogil:
        """A line, its end included."""
        cdef uint32_t count
        cdef Token* t = self.tokens
        n -= 1
        if n and p[n - 1] == c"\r":
            n -= 1
        count = _split(t, p, n)
        if count == 0:
            self.text(c, b"ERROR\r\n")
        elif t[0].n == 2 and t[0].p[0] == c"m":
            _meta(self, c, t, count)
        elif _is(&t[0], b"get") or _is(&t[0], b"gets"):
            _get(self, c, p + t[0].n, n - t[0].n, t[0].n == 4)
        elif (_is(&t[0], b"gat") or _is(&t[0], b"gats")) and count > 2:
            _gat(self, c, t, count)
        elif _verb(&t[0]):
            _storage(self, c, t, count, _verb(&t[0]))
        elif _is(&t[0], b"delete") and count > 1:
            _delete(self, c, t, count)
        elif (_is(&t[0], b"incr") or _is(&t[0], b"decr")) and count > 2:
            _arithmetic(self, c, t, count)
        elif _is(&t[0], b"touch") and count > 2:
            _touch(self, c, t, count)
        else:
            _other(self, c, t, count)

    cdef void store(self, Client* c, Item* i) noexcept nogil:
        _store(self, c, i)


# -- words -------------------------------------------------------------------------------------------------------

cdef uint32_t _split(Token* t, const uint8_t* p, uint32_t n) noexcept nogil:
    cdef uint32_t i = 0, count = 0
    while count < MAX_TOKENS:
        while i < n and p[i] == c" ":
            i += 1
        if i == n:
            break
        t[count].p = p + i
        while i < n and p[i] != c" ":
            i += 1
        t[count].n = <uint32_t>(p + i - t[count].p)
        count += 1
    return count


cdef inline bint _is(const Token* t, const char* word) noexcept nogil:
    return t.n == strlen(word) and memcmp(t.p, word, t.n) == 0


cdef uint8_t _verb(const Token* t) noexcept nogil:
    return (SET if _is(t, b"set") else ADD if _is(t, b"add") else REPLACE if _is(t, b"replace")
            else APPEND if _is(t, b"append") else PREPEND if _is(t, b"prepend") else CAS if _is(t, b"cas") else 0)


cdef bint _number(const uint8_t* p, uint32_t n, uint64_t* out) noexcept nogil:
    cdef uint32_t i
    cdef uint64_t v = 0
    if n == 0 or n > 20:
        return False
    for i in range(n):
        if not c"0" <= p[i] <= c"9" or v > <uint64_t>0xFFFFFFFFFFFFFFFF // 10:
            return False
        v = v * 10 + (p[i] - c"0")
    out[0] = v
    return True


cdef bint _time(Memcached self, const uint8_t* p, uint32_t n, int64_t* out) noexcept nogil:
    """An expiry time: 0 never, up to a month relative, negative: at once."""
    cdef uint64_t v
    if n and p[0] == c"-":
        out[0] = 1
        return _number(p + 1, n - 1, &v)
    if not _number(p, n, &v):
        return False
    out[0] = 0 if v == 0 else cache_now(&self.cache) + <int64_t>v if v <= MONTH else <int64_t>v
    return True


cdef inline bint _good_key(const Token* t) noexcept nogil:
    cdef uint32_t i
    if not 1 <= t.n <= KEY_MAX:
        return False
    for i in range(t.n):
        if t.p[i] <= 32 or t.p[i] == 127:
            return False
    return True


cdef inline bint _noreply(const Token* t, uint32_t count) noexcept nogil:
    return _is(&t[count - 1], b"noreply")


cdef void _bad(Memcached self, Client* c) noexcept nogil:
    self.text(c, b"CLIENT_ERROR bad command line format\r\n")


# -- the text protocol ---------------------------------------------------------------------------------------------

cdef Item* _look(Memcached self, const Token* key) noexcept nogil:
    cdef Item* i = cache_find(&self.cache, key.p, key.n, True)
    self.gets += 1
    if i != NULL:
        self.hits += 1
        i.used_at = cache_now(&self.cache)
    return i


cdef void _value(Memcached self, Client* c, Item* i, bint with_cas) noexcept nogil:
    self.text(c, b"VALUE ")
    self.say(c, item_key(i), i.key_len)
    self.text(c, b" ")
    self.number(c, i.flags)
    self.text(c, b" ")
    self.number(c, i.n)
    if with_cas:
        self.text(c, b" ")
        self.number(c, i.cas)
    self.text(c, b"\r\n")
    self.say(c, item_value(i), i.n + 2)
    i.fetched = True


cdef void _get(Memcached self, Client* c, const uint8_t* p, uint32_t n, bint with_cas) noexcept nogil:
    """`p`: the keys; any number of them."""
    cdef Token key
    cdef Item* i
    cdef uint32_t at = 0, found = 0
    while True:
        while at < n and p[at] == c" ":
            at += 1
        if at == n:
            break
        key.p = p + at
        while at < n and p[at] != c" ":
            at += 1
        key.n = <uint32_t>(p + at - key.p)
        found += 1
        if not _good_key(&key):
            _bad(self, c)
            return
        i = _look(self, &key)
        if i != NULL:
            _value(self, c, i, with_cas)
    self.text(c, b"END\r\n" if found else b"ERROR\r\n")


cdef void _gat(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef int64_t expires
    cdef uint32_t i
    cdef Item* item
    cdef bint with_cas = t[0].n == 4
    if not _time(self, t[1].p, t[1].n, &expires):
        self.text(c, b"CLIENT_ERROR invalid exptime argument\r\n")
        return
    if count == <uint32_t>MAX_TOKENS:
        self.text(c, b"CLIENT_ERROR too many keys\r\n")
        return
    for i in range(2, count):
        item = _look(self, &t[i]) if _good_key(&t[i]) else NULL
        if item != NULL:
            item.expires = expires
            _value(self, c, item, with_cas)
    self.text(c, b"END\r\n")


cdef void _storage(Memcached self, Client* c, Token* t, uint32_t count, uint8_t how) noexcept nogil:
    """<command> <key> <flags> <exptime> <bytes> [<cas>] [noreply]"""
    cdef uint64_t flags, n, cas = 0
    cdef int64_t expires
    if count < 5 + (how == CAS):
        self.text(c, b"ERROR\r\n")
        return
    if (not _good_key(&t[1]) or not _number(t[2].p, t[2].n, &flags) or flags >> 32
            or not _time(self, t[3].p, t[3].n, &expires) or not _number(t[4].p, t[4].n, &n) or n > 0x7FFFFFFF
            or (how == CAS and not _number(t[5].p, t[5].n, &cas))):
        _bad(self, c)
        return
    c.quiet, c.meta, c.how, c.cas = _noreply(t, count), False, how, cas
    _receive(self, c, &t[1], <uint32_t>flags, expires, <uint32_t>n)


cdef void _receive(Memcached self, Client* c, const Token* key, uint32_t flags, int64_t expires, uint32_t n) noexcept nogil:
    """A value follows."""
    cdef Item* i = NULL if n > self.max_item else cache_new(&self.cache, key.p, key.n, n)
    cdef Item* old
    if i == NULL:
        self.text(c, b"SERVER_ERROR object too large for cache\r\n" if n > self.max_item
                  else b"SERVER_ERROR out of memory storing object\r\n")
        c.skip = n + 2
        old = cache_find(&self.cache, key.p, key.n, False)
        if old != NULL and c.how == SET:      # nobody may find what was to be replaced
            cache_remove(&self.cache, old)
        return
    i.flags, i.expires = flags, expires
    c.item, c.filled = i, 0


cdef Item* _joined(Memcached self, Item* old, Item* i, bint before) noexcept nogil:
    """A new item of both values, under the old one's flags; it takes their place."""
    cdef uint32_t n = old.n + i.n
    cdef Item* both = NULL
    # the old one was used last, so that it would be the last to give way
    if n <= self.max_item and 3 * sizeof(Item) + 3 * <uint64_t>old.key_len + 2 * <uint64_t>n + 6 <= self.cache.limit:
        both = cache_new(&self.cache, item_key(old), old.key_len, n)
    if both == NULL:
        return NULL
    both.flags, both.expires = old.flags, old.expires
    memcpy(item_value(both), item_value(i if before else old), i.n if before else old.n)
    memcpy(item_value(both) + (i.n if before else old.n), item_value(old if before else i), (old.n if before else i.n) + 2)
    return both


cdef void _store(Memcached self, Client* c, Item* i) noexcept nogil:
    """The value is complete: do with it what the command said."""
    cdef Item* old = cache_find(&self.cache, item_key(i), i.key_len, True)
    cdef Item* both
    cdef const char* answer = b"NOT_STORED\r\n"
    cdef const char* short = b"NS"
    cdef uint8_t how = c.how
    self.sets += 1
    if how == CAS or (c.meta and c.cas):
        if old == NULL:
            answer, short, how = b"NOT_FOUND\r\n", b"NF", 0
        elif old.cas != c.cas:
            answer, short, how = b"EXISTS\r\n", b"EX", 0
        elif how == CAS:
            how = SET
    if how and not (how == SET or (how == ADD and old == NULL) or (how != ADD and old != NULL)):
        how = 0
    if how == APPEND or how == PREPEND:
        both = _joined(self, old, i, how == PREPEND)
        cache_drop(&self.cache, i)
        if both == NULL:
            self.text(c, b"SERVER_ERROR out of memory storing object\r\n")
            return
        i = both
    if how:
        if old != NULL:
            cache_remove(&self.cache, old)
        cache_link(&self.cache, i)
        answer, short = b"STORED\r\n", b"HD"
    if c.meta:
        _meta_answer(self, c, short, i if how else NULL, how != 0)
    elif not c.quiet:
        self.text(c, answer)
    if not how:
        cache_drop(&self.cache, i)


cdef void _delete(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef Item* i = cache_find(&self.cache, t[1].p, t[1].n, False) if _good_key(&t[1]) else NULL
    if not _good_key(&t[1]) or (count > 2 and not _noreply(t, count) and not _is(&t[2], b"0")):
        _bad(self, c)
        return
    if i != NULL:
        cache_remove(&self.cache, i)
    if not _noreply(t, count):
        self.text(c, b"DELETED\r\n" if i != NULL else b"NOT_FOUND\r\n")


cdef Item* _add(Memcached self, Item* i, bint up, uint64_t delta, uint64_t* result) noexcept nogil:
    """Count up, modulo 2**64, or down to 0. NULL: it is no number, or there is no memory for the new one."""
    cdef uint64_t v
    cdef uint8_t digits[20]
    cdef uint32_t at = 20, n = i.n
    cdef Item* new
    while n > 1 and item_value(i)[n - 1] == c" ":     # of one that became shorter
        n -= 1
    if not _number(item_value(i), n, &v):
        return NULL
    v = v + delta if up else v - delta if v > delta else 0
    result[0] = v
    while True:
        at -= 1
        digits[at] = <uint8_t>(c"0" + v % 10)
        v //= 10
        if v == 0:
            break
    n = 20 - at
    if n <= i.n:                  # memcached pads with blanks, too
        memcpy(item_value(i), digits + at, n)
        while n < i.n:
            item_value(i)[n] = c" "
            n += 1
        self.cache.next_cas += 1
        i.cas = self.cache.next_cas
        return i
    new = cache_new(&self.cache, item_key(i), i.key_len, n)
    if new == NULL:
        return NULL
    new.flags, new.expires = i.flags, i.expires
    memcpy(item_value(new), digits + at, n)
    memcpy(item_value(new) + n, b"\r\n", 2)
    cache_remove(&self.cache, i)
    cache_link(&self.cache, new)
    return new


cdef void _arithmetic(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef uint64_t delta, result = 0
    cdef Item* i
    cdef bint quiet = _noreply(t, count)
    if not _good_key(&t[1]):
        _bad(self, c)
        return
    if not _number(t[2].p, t[2].n, &delta):
        self.text(c, b"CLIENT_ERROR invalid numeric delta argument\r\n")
        return
    i = cache_find(&self.cache, t[1].p, t[1].n, True)
    if i == NULL:
        if not quiet:
            self.text(c, b"NOT_FOUND\r\n")
        return
    if _add(self, i, t[0].p[0] == c"i", delta, &result) == NULL:
        self.text(c, b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")
    elif not quiet:
        self.number(c, result)
        self.text(c, b"\r\n")


cdef void _touch(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef int64_t expires
    cdef Item* i
    if not _good_key(&t[1]) or not _time(self, t[2].p, t[2].n, &expires):
        _bad(self, c)
        return
    i = cache_find(&self.cache, t[1].p, t[1].n, True)
    if i != NULL:
        i.expires = expires
    if not _noreply(t, count):
        self.text(c, b"TOUCHED\r\n" if i != NULL else b"NOT_FOUND\r\n")


cdef void _stat(Memcached self, Client* c, const char* name, uint64_t value) noexcept nogil:
    self.text(c, b"STAT ")
    self.text(c, name)
    self.text(c, b" ")
    self.number(c, value)
    self.text(c, b"\r\n")


cdef void _other(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    if _is(&t[0], b"version"):
        self.text(c, b"VERSION 1.6.0-iip\r\n")
    elif _is(&t[0], b"quit"):
        c.closing = True
    elif _is(&t[0], b"flush_all"):
        cache_clear(&self.cache)
        if not _noreply(t, count):
            self.text(c, b"OK\r\n")
    elif _is(&t[0], b"verbosity"):
        if not _noreply(t, count):
            self.text(c, b"OK\r\n")
    elif _is(&t[0], b"stats"):
        if count == 1:
            _stat(self, c, b"uptime", <uint64_t>(cache_now(&self.cache) - self.started))
            _stat(self, c, b"curr_connections", self.clients)
            _stat(self, c, b"total_connections", self.total_clients)
            _stat(self, c, b"cmd_get", self.gets)
            _stat(self, c, b"cmd_set", self.sets)
            _stat(self, c, b"get_hits", self.hits)
            _stat(self, c, b"get_misses", self.gets - self.hits)
            _stat(self, c, b"curr_items", self.cache.items)
            _stat(self, c, b"bytes", self.cache.bytes)
            _stat(self, c, b"limit_maxbytes", self.cache.limit)
            _stat(self, c, b"evictions", self.cache.evictions)
        self.text(c, b"END\r\n")
    else:
        self.text(c, b"ERROR\r\n")


# -- the meta protocol ---------------------------------------------------------------------------------------------

cdef const Token* _flag(const Token* t, uint32_t first, uint32_t count, uint8_t letter) noexcept nogil:
    cdef uint32_t i
    for i in range(first, count):
        if t[i].p[0] == letter:
            return &t[i]
    return NULL


cdef void _return_flags(Memcached self, Client* c, const Token* t, uint32_t first, uint32_t count) noexcept nogil:
    """Keep what the answer repeats: the key (k) and the token (O), and ask for cas (c)."""
    cdef const Token* f = _flag(t, first, count, c"O")
    c.reply_len = 0
    if f != NULL and f.n < 64:
        c.reply[0] = c" "
        memcpy(c.reply + 1, f.p, f.n)
        c.reply_len = f.n + 1
    if _flag(t, first, count, c"k") != NULL:
        c.reply[c.reply_len] = c" "
        c.reply[c.reply_len + 1] = c"k"
        memcpy(c.reply + c.reply_len + 2, t[1].p, t[1].n)
        c.reply_len += t[1].n + 2


cdef void _meta_answer(Memcached self, Client* c, const char* code, Item* i, bint ok) noexcept nogil:
    """HD, NS, EX or NF with the flags that are repeated; quiet mode leaves out what is usual."""
    if c.quiet and (ok or code[0] == c"N" and code[1] == c"F"):
        return
    self.text(c, code)
    self.say(c, c.reply, c.reply_len)
    self.text(c, b"\r\n")


cdef void _meta(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef uint8_t which = t[0].p[1]
    if which == c"n" and count == 1:
        self.text(c, b"MN\r\n")
        return
    if count < 2 or not _good_key(&t[1]):
        _bad(self, c)
        return
    c.meta = True
    c.quiet = _flag(t, 2 + (which == c"s"), count, c"q") != NULL
    _return_flags(self, c, t, 2 + (which == c"s"), count)
    if which == c"g":
        _meta_get(self, c, t, count)
    elif which == c"s":
        _meta_set(self, c, t, count)
    elif which == c"d":
        _meta_delete(self, c, t, count)
    elif which == c"a":
        _meta_arithmetic(self, c, t, count)
    else:
        self.text(c, b"ERROR\r\n")


cdef void _item_flags(Memcached self, Client* c, const Token* t, uint32_t count, Item* i) noexcept nogil:
    """What was asked for of an item, in the order it was asked."""
    cdef uint32_t k
    cdef uint8_t letter
    for k in range(2, count):
        letter = t[k].p[0]
        if letter == c"k" or letter == c"O":
            self.text(c, b" ")
            self.say(c, t[k].p, t[k].n)
            if letter == c"k":
                self.say(c, item_key(i), i.key_len)
        elif letter in (c"f", c"s", c"c", c"t", c"h", c"l"):
            self.text(c, b" ")
            self.say(c, t[k].p, 1)
            if letter == c"t" and i.expires == 0:
                self.text(c, b"-1")
            else:
                self.number(c, i.flags if letter == c"f" else i.n if letter == c"s" else i.cas if letter == c"c"
                            else <uint64_t>(i.expires - cache_now(&self.cache)) if letter == c"t"
                            else i.fetched if letter == c"h" else <uint64_t>(cache_now(&self.cache) - i.used_at))


cdef void _meta_get(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef Item* i
    cdef int64_t expires
    cdef const Token* f = _flag(t, 2, count, c"T")
    self.gets += 1
    i = cache_find(&self.cache, t[1].p, t[1].n, True)
    if i == NULL:
        if not c.quiet:
            self.text(c, b"EN\r\n")
        return
    self.hits += 1
    if f != NULL:
        if not _time(self, f.p + 1, f.n - 1, &expires):
            _bad(self, c)
            return
        i.expires = expires
    if _flag(t, 2, count, c"v") != NULL:
        self.text(c, b"VA ")
        self.number(c, i.n)
    else:
        self.text(c, b"HD")
    _item_flags(self, c, t, count, i)
    self.text(c, b"\r\n")
    if _flag(t, 2, count, c"v") != NULL:
        self.say(c, item_value(i), i.n + 2)
    i.fetched = True
    i.used_at = cache_now(&self.cache)


cdef void _meta_set(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    """ms <key> <datalen> <flags>*"""
    cdef uint64_t n, flags = 0, cas = 0
    cdef int64_t expires = 0
    cdef const Token* f
    if count < 3 or not _number(t[2].p, t[2].n, &n) or n > 0x7FFFFFFF:
        self.text(c, b"CLIENT_ERROR bad data chunk\r\n")
        c.closing = True
        return
    c.how = SET
    f = _flag(t, 3, count, c"M")
    if f != NULL and f.n > 1:
        c.how = (ADD if f.p[1] in (c"E", c"e") else APPEND if f.p[1] in (c"A", c"a") else PREPEND if f.p[1] in (c"P", c"p")
                 else REPLACE if f.p[1] in (c"R", c"r") else SET)
    f = _flag(t, 3, count, c"F")
    if f != NULL and not _number(f.p + 1, f.n - 1, &flags):
        _bad(self, c)
    f = _flag(t, 3, count, c"C")
    if f != NULL and not _number(f.p + 1, f.n - 1, &cas):
        _bad(self, c)
    f = _flag(t, 3, count, c"T")
    if f != NULL and not _time(self, f.p + 1, f.n - 1, &expires):
        _bad(self, c)
    c.cas = cas
    _receive(self, c, &t[1], <uint32_t>flags, expires, <uint32_t>n)


cdef void _meta_delete(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef Item* i = cache_find(&self.cache, t[1].p, t[1].n, False)
    cdef const Token* f = _flag(t, 2, count, c"C")
    cdef uint64_t cas
    if i == NULL:
        _meta_answer(self, c, b"NF", NULL, False)
        return
    if f != NULL and (not _number(f.p + 1, f.n - 1, &cas) or cas != i.cas):
        _meta_answer(self, c, b"EX", NULL, False)
        return
    cache_remove(&self.cache, i)
    _meta_answer(self, c, b"HD", NULL, True)


cdef void _meta_arithmetic(Memcached self, Client* c, Token* t, uint32_t count) noexcept nogil:
    cdef Item* i = cache_find(&self.cache, t[1].p, t[1].n, True)
    cdef const Token* f = _flag(t, 2, count, c"D")
    cdef uint64_t delta = 1, result = 0, initial = 0
    cdef int64_t expires = 0
    cdef bint up = True
    if f != NULL and not _number(f.p + 1, f.n - 1, &delta):
        self.text(c, b"CLIENT_ERROR invalid numeric delta argument\r\n")
        return
    f = _flag(t, 2, count, c"M")
    if f != NULL and f.n > 1:
        up = f.p[1] not in (c"D", c"d", c"-")
    f = _flag(t, 2, count, c"N")
    if i == NULL:
        if f == NULL:
            _meta_answer(self, c, b"NF", NULL, False)
            return
        _time(self, f.p + 1, f.n - 1, &expires)
        f = _flag(t, 2, count, c"J")
        if f != NULL:
            _number(f.p + 1, f.n - 1, &initial)
        i = cache_new(&self.cache, t[1].p, t[1].n, 1)
        if i == NULL:
            self.text(c, b"SERVER_ERROR out of memory\r\n")
            return
        memcpy(item_value(i), b"0\r\n", 3)
        i.expires = expires
        cache_link(&self.cache, i)
        delta, up = initial, True
    i = _add(self, i, up, delta, &result)
    if i == NULL:
        self.text(c, b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n")
        return
    if _flag(t, 2, count, c"v") == NULL:
        _meta_answer(self, c, b"HD", i, True)
        return
    self.text(c, b"VA ")
    self.number(c, i.n)
    self.say(c, c.reply, c.reply_len)
    self.text(c, b"\r\n")
    self.say(c, item_value(i), i.n + 2)
