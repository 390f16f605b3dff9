"""See packet_ring.pxd."""
import ctypes


cdef void ring_map(Mapped* to, object ring):
    """A `packet_socket.Ring`, of which somebody else takes care."""
    to.blocks, to.block_size, to.slots, to.slot_size = ring.blocks, ring.block_size, ring.slots, ring.slot_size
    to.fd = ring.socket.fileno()
    pin = ctypes.c_char.from_buffer(ring.memory)
    to.memory = <uint8_t*><uintptr_t>ctypes.addressof(pin)
