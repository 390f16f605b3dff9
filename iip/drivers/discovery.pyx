"""ARP and neighbour discovery for each of several drivers that share a device.

A device with several queues, or a group of packet sockets, hands a frame to one of them, which is right for a connection's packets.
But every engine has to learn who its neighbours are, and to answer for its address. So each driver has a packet socket beside
its queue that gets a copy of these few frames, and leaves out those that come from the queue.
"""
from libc.stdint cimport uint32_t

from iip.drivers.base cimport pkt_from_bytes
from iip.drivers.packet_ring cimport OUTGOING, RxFrame, ring_done, ring_map, ring_peek
from iip.memory.pool cimport NIL

import select

from iip.drivers import packet_socket


cdef class Discovery:
    """For device `name`, whose queue is the descriptor `fd`; outgoing: frames that the kernel sends to the device are those that
    come to us (a TAP device), and not those that it receives from there."""

    def __cinit__(self, *args, **kwargs):
        self.ring.fd = -1

    def __init__(self, name, fd, outgoing):
        self.outgoing = outgoing
        self.parts = packet_socket.open_discovery(name)
        ring_map(&self.ring, self.parts)
        self.poller = select.epoll()
        self.poller.register(fd, select.EPOLLIN)
        self.poller.register(self.ring.fd, select.EPOLLIN)

    def fileno(self):
        """Readable when the queue or the socket is."""
        return self.poller.fileno()

    def close(self):
        self.ring.fd = -1
        if self.parts is not None:
            self.poller.close()
            self.parts.memory.close()
            self.parts.socket.close()
            self.parts = None

    def __del__(self):
        self.close()

    cdef int receive(self, Pool* pool, uint32_t* packets, int n) noexcept nogil:
        """Up to `n` packets; how many."""
        cdef RxFrame frame
        cdef uint32_t i
        cdef int count = 0
        while self.ring.fd >= 0 and count < n and ring_peek(&self.ring, &frame):
            if (frame.kind == OUTGOING) == self.outgoing and frame.snaplen == frame.len:
                i = pkt_from_bytes(pool, frame.data, frame.len)
                if i == NIL:
                    break
                packets[count] = i
                count += 1
            ring_done(&self.ring)
        return count
