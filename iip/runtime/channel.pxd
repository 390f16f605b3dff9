"""What lies between a network thread and an application thread: three rings, two bells, and who is still there.

Events ("tells") go one way and requests ("asks") the other, as small records in rings for one producer and one consumer
each; payload stays in the packets it arrived in, and data to send in packets that the application's thread has filled. So
neither a lock nor a copy is needed. Each record fills a cache line or half of one; what one thread writes and the other
reads lies 128 bytes from anything else.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from iip.memory.ring cimport SpscRing, load_acquire, load_relaxed, ring_commit, ring_len, ring_reserve, store_release
from iip.net.types cimport Addr
from iip.wire.bytes cimport likely, unlikely

cdef extern from *:
    """
    #define IIP_FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    """
    void fence "IIP_FENCE"() noexcept nogil

cdef enum:
    # what the network's thread tells
    TELL_SYN = 1                  # answer with ASK_ACCEPT or ASK_REFUSE
    TELL_ACCEPTED
    TELL_CONNECTED
    TELL_PAYLOAD
    TELL_ACKED
    TELL_SHUTDOWN
    TELL_CLOSED
    TELL_UDP
    # what the application's thread asks for
    ASK_ACCEPT = 1
    ASK_REFUSE
    ASK_CONNECT                   # `packet` begins with a Call
    ASK_SEND                      # `packet`, filled
    ASK_SEND_VIEW                 # `n` bytes from `value` of what `packet` holds
    ASK_RELEASE                   # `packet` is read, and `n` bytes of the connection are consumed
    ASK_CONSUME
    ASK_SHUTDOWN
    ASK_CLOSE
    ASK_ABORT
    ASK_LISTEN                    # port `n`, `value`: on or off
    ASK_OPTION                    # option `n` becomes `value`
    ASK_FASTOPEN
    ASK_CONGESTION                # `packet` holds the name
    ASK_UDP_BIND                  # port `n`, `value`: on or off
    ASK_UDP_SEND                  # `packet` begins with a Call, `n` bytes of data follow
    WRITER_BURST = 64
    LINE_PAIR = 128


cdef struct Tell:
    uint8_t kind
    uint8_t version               # of IP
    uint8_t a                     # SYN: its options; ACCEPTED: nobody was asked; CLOSED: the reason; UDP: TTL
    uint8_t b                     # UDP: TOS
    uint32_t n                    # bytes; ACCEPTED, CONNECTED and ACKED: see `limit`
    uint64_t conn                 # as the application knows it
    const uint8_t* data
    Addr local
    Addr remote
    uint16_t local_port
    uint16_t remote_port
    uint32_t packet               # whose bytes they are; SYN, ACCEPTED, CONNECTED: MSS; ACKED: the send buffer's size


cdef struct Ask:
    uint64_t conn
    int64_t value
    uint32_t packet
    uint32_t n
    uint32_t kind
    uint32_t spare


cdef struct Call:
    # in front of a packet's data
    Addr remote
    Addr source
    uint16_t port
    uint16_t source_port
    uint8_t ttl
    uint8_t tos


cdef struct Bell:
    # wakes a thread that sleeps in poll(2)
    size_t asleep                 # set by the sleeper, cleared by who rings
    uint8_t pad[120]
    int read_fd
    int write_fd
    uint64_t rung
    uint8_t pad2[112]


cdef struct Channel:
    SpscRing tells
    SpscRing asks
    SpscRing stock                # empty packets for what the application sends
    size_t net_gone               # the network's thread has ended
    uint8_t pad0[120]
    size_t app_gone               # the application's thread has ended
    uint8_t pad1[120]
    size_t given_up               # the network's thread does not wait for the application any more
    uint8_t pad2[120]
    Bell net
    Bell app


cdef struct Writer:
    # a producer's place in its ring: records are published in batches
    SpscRing* ring
    uint8_t* at
    size_t room
    size_t used


cdef inline void writer_flush(Writer* w) noexcept nogil:
    """Publish what was written."""
    if w.used:
        ring_commit(w.ring, w.used)
        w.at += w.used * w.ring.elem_size
        w.room -= w.used
        w.used = 0


cdef inline void* writer_next(Writer* w) noexcept nogil:
    """Where the next record goes; NULL if the ring is full."""
    cdef uint8_t* p
    if unlikely(w.used == w.room):
        writer_flush(w)
        w.room = ring_reserve(w.ring, WRITER_BURST, &w.at)
        if w.room == 0:
            return NULL
    p = w.at + w.used * w.ring.elem_size
    w.used += 1
    return p


cdef inline size_t writer_free(Writer* w) noexcept nogil:
    """Records that there is room for."""
    return w.ring.capacity - (w.ring.tail + w.used - w.ring.head_seen)


cdef void bell_wake(Bell* bell) noexcept nogil
cdef void bell_sleep(Bell* bell, int fd, int fd2, int64_t ns) noexcept nogil


cdef inline void bell_ring(Bell* bell) noexcept nogil:
    """After publishing: wake the other thread if it sleeps."""
    fence()
    if unlikely(load_relaxed(&bell.asleep)):
        bell_wake(bell)


cdef inline void bell_lie_down(Bell* bell) noexcept nogil:
    """Before sleeping. The caller then looks once more whether there is something to do."""
    store_release(&bell.asleep, 1)
    fence()


cdef inline void bell_get_up(Bell* bell) noexcept nogil:
    store_release(&bell.asleep, 0)


cdef class Link:
    """The rings and bells between two threads."""
    cdef Channel* c
    cdef readonly uint32_t capacity
    cdef readonly uint32_t stock


cdef int bell_open(Bell* bell) except -1
cdef void bell_close(Bell* bell) noexcept
