"""One direction of a bad wire: what `Impair`, `Wire` and the links of the simulator are made of."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from iip.drivers.base cimport NEVER
from iip.drivers.heap cimport Held, held_before
from iip.memory.pool cimport Pool
from iip.wire.rng cimport Rng


cdef struct Waiting:
    int64_t since                 # when it came, ns
    uint32_t packet
    uint32_t size                 # bytes


cdef struct CoDelState:
    # RFC 8289 §5.1; times in ns
    int64_t target
    int64_t interval
    int64_t first_above           # when the delay will have been above the target for an interval; 0: it is not
    int64_t drop_next
    uint32_t count                # drops since the dropping state began
    uint32_t last_count
    bint dropping
    bint on


cdef struct Line:
    Pool* pool                    # of the packets on it
    # on their way: those that leave in the order they came, a ring,
    Held* road
    uint32_t road_mask
    uint32_t road_head            # free-running, as below
    uint32_t road_tail
    Held* heap                    # and the others, the next one to leave on top
    uint32_t n
    uint32_t limit                # packets on their way and waiting
    uint64_t order
    # waiting for their turn at `rate`
    Waiting* fifo
    uint32_t mask
    uint32_t head                 # free-running: packets ever taken out,
    uint32_t tail                 # ever put in
    uint64_t waiting              # bytes
    uint64_t max_bytes
    uint32_t max_packets
    uint64_t mark                 # bytes waiting above which packets are marked; 0: never
    bint ecn                      # CoDel marks where it can
    CoDelState codel
    # settings
    uint64_t loss                 # probabilities, in units of 2**-32
    uint64_t loss_bad             # in the bad state (Gilbert, Elliott)
    uint64_t to_bad
    uint64_t to_good
    uint64_t duplicate
    uint64_t reorder
    uint64_t corrupt
    double jitter                 # ns
    int64_t delay
    int64_t reorder_delay
    double ns_per_byte
    uint32_t link                 # bytes of the link-layer header in front of IP
    # state
    bint bad
    int64_t busy_until            # the sender is occupied until then
    int64_t last_at               # when the last packet in order leaves
    Rng rng
    # what happened
    uint64_t packets
    uint64_t octets
    uint64_t lost
    uint64_t duplicated
    uint64_t reordered
    uint64_t corrupted
    uint64_t queue_full
    uint64_t codel_dropped
    uint64_t marked
    uint64_t no_buffer            # the pool had no packet for a copy


cdef inline uint32_t line_waiting(const Line* line) noexcept nogil:
    return line.tail - line.head


cdef inline uint32_t line_held(const Line* line) noexcept nogil:
    """Packets on the line."""
    return line.n + line.road_tail - line.road_head + line.tail - line.head


cdef inline Held* line_first(const Line* line) noexcept nogil:
    """The next one to leave of those on their way; NULL: there is none."""
    cdef Held* first = &line.road[line.road_head & line.road_mask]
    if line.road_head == line.road_tail:
        return &line.heap[0] if line.n else NULL
    if line.n and held_before(&line.heap[0], first):
        return &line.heap[0]
    return first


cdef inline int64_t line_next(const Line* line) noexcept nogil:
    """No packet leaves before that; the next one may leave later."""
    cdef Held* first = line_first(line)
    cdef int64_t at = NEVER if first == NULL else first.at
    if line.head != line.tail:
        at = min(at, line.busy_until + line.delay)
    return at


cdef int line_init(Line* line, object settings, uint64_t seed, str medium) except -1
cdef void line_dispose(Line* line) noexcept
cdef void line_clear(Line* line) noexcept nogil
cdef void line_admit(Line* line, uint32_t packet, int64_t now) noexcept nogil
cdef uint32_t line_pop(Line* line, int64_t now) noexcept nogil
cdef void line_return(Line* line, uint32_t packet, int64_t now) noexcept nogil
cdef object line_stats(const Line* line, str prefix)
