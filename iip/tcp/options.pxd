"""What the application may set for one connection."""
from libc.stdint cimport int64_t
from iip.tcp.tcb cimport Tcb, Tcp

cdef enum ConnOption:
    # times in ns, sizes in bytes
    CO_NODELAY = 1                # 1: short segments do not wait for acknowledgements
    CO_CORK                       # 1: short segments wait for more, at most 200 ms
    CO_QUICKACK                   # 1: acknowledge at once, for a while; 0: wait for something to travel with
    CO_KEEPALIVE                  # 1: probe the peer of an idle connection,
    CO_KEEPALIVE_IDLE             # after so long,
    CO_KEEPALIVE_INTERVAL         # and again after that,
    CO_KEEPALIVE_PROBES           # so often
    CO_USER_TIMEOUT               # data may stay unacknowledged for so long; 0: by retransmissions
    CO_LINGER                     # a close that takes longer is an abort; 0: always; -1: off
    CO_UNSENT_LOW                 # tcp_acked while less is unsent; 0: off
    CO_MAX_SEG                    # upper bound of the segments' size, both ways before the connection opens; 0: none
    CO_TRAFFIC_CLASS              # DSCP, in the upper six bits
    CO_TTL                        # hop limit
    CO_PAUSED                     # 1: payload stays with us, and the window closes
    CO_SEND_BUFFER                # fixed from then on
    CO_RECEIVE_BUFFER


cdef int options_set(Tcp* s, Tcb* t, int option, int64_t value) noexcept nogil
cdef int64_t options_get(Tcp* s, Tcb* t, int option) noexcept nogil
cdef bint options_range(int option, int64_t* low, int64_t* high) noexcept nogil
cdef bint options_cork_over(Tcp* s, Tcb* t) noexcept nogil
