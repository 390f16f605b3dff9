"""Opening packet sockets of Linux and their rings: the slow part of `iip.drivers.af_packet`."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import socket
import struct
from typing import NamedTuple

from iip.drivers import fanout
from iip.errors import DriverError

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _TX_RING = 1, 5, 6, 10, 13
_LOSS, _VNET_HDR, _FANOUT, _QDISC_BYPASS, _IGNORE_OUTGOING = 14, 15, 18, 20, 23
_TPACKET_V2, _TPACKET_V3 = 1, 2
_MR_PROMISC, _MR_ALLMULTI = 1, 2
_FANOUT_CBPF, _FANOUT_UNIQUE, _FANOUT_IGNORE_OUTGOING = 6, 0x2000, 0x4000
_FANOUT_DATA = 22
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_LDH, _LDB, _JEQ, _JGE, _JGT, _RET = 0x28, 0x30, 0x15, 0x35, 0x25, 0x06      # opcodes of classic BPF
_SO_SNDBUFFORCE = 32

PAGE = 4096
SLOT = 67 * 1024                  # for the largest frame; four are whole pages, and do not begin at equal offsets of a page
SLOTS_PER_BLOCK = 4
BLOCK = 1 << 18                   # bytes of a block of frames that are handed over together


class Ring(NamedTuple):
    """Memory shared with the kernel."""

    socket: socket.socket
    memory: mmap.mmap
    blocks: int
    block_size: int
    slots: int                    # in a block; 0: frames lie one behind the other
    slot_size: int


def _socket(name: str) -> socket.socket:
    if not hasattr(socket, "AF_PACKET"):
        raise DriverError("af_packet: packet sockets exist on Linux only; use iip.drivers.Tunnel here")
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise DriverError(f"af_packet: no permission to open a packet socket for {name!r}: it needs CAP_NET_RAW; run as root, or "
                          "give the interpreter that capability (`setcap cap_net_raw+ep`)") from None


def _set(sock: socket.socket, option: int, value: int | bytes, remedy: str) -> None:
    try:
        sock.setsockopt(_SOL_PACKET, option, value)
    except OSError as error:
        sock.close()
        if error.errno == errno.ENOMEM:
            remedy = "there is not enough memory; use fewer `frames`"
        raise DriverError(f"af_packet: {remedy} ({error.strerror})") from None


def _map(sock: socket.socket, size: int) -> mmap.mmap:
    try:
        return mmap.mmap(sock.fileno(), size)
    except OSError as error:
        sock.close()
        raise DriverError(f"af_packet: the rings cannot be mapped ({error.strerror}); use fewer `frames`") from None


def open_receive(name: str, *, frames: int, block_timeout: int, promiscuous: bool, group: int | None) -> Ring:
    """A receive ring for all frames of device `name`; block_timeout (ms) 0: one slot for each frame, which is seen at once."""
    sock = _socket(name)
    _set(sock, _VERSION, _TPACKET_V3 if block_timeout else _TPACKET_V2, "this kernel has no such rings")
    _set(sock, _VNET_HDR, 1, "this kernel does not tell what is unfinished in a frame (PACKET_VNET_HDR)")
    if block_timeout:
        blocks, block, slots, slot = max(16, frames * 2048 // BLOCK), BLOCK, 0, 2048
        request = struct.pack("7I", block, blocks, slot, blocks * block // slot, block_timeout, 0, 0)
    else:
        blocks, block, slots, slot = -(-frames // SLOTS_PER_BLOCK), SLOTS_PER_BLOCK * SLOT, SLOTS_PER_BLOCK, SLOT
        request = struct.pack("4I", block, blocks, slot, blocks * slots)
    _set(sock, _RX_RING, request, "the receive ring is refused; use fewer `frames`")
    with contextlib.suppress(OSError):      # an older kernel: the driver looks itself
        sock.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    memory = _map(sock, blocks * block)
    try:
        sock.bind((name, _ETH_P_ALL))
        index = socket.if_nametoindex(name)
        for kind in (_MR_ALLMULTI, *([_MR_PROMISC] if promiscuous else [])):
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8x", index, kind, 0))
        if group is not None:
            _join(sock, name, group)
    except OSError as error:
        memory.close()
        sock.close()
        if isinstance(error, DriverError):
            raise
        raise DriverError(f"af_packet: cannot receive from {name!r}: {error.strerror}") from None
    return Ring(sock, memory, blocks, block, slots, slot)


def _join(sock: socket.socket, name: str, group: int) -> None:
    """Share the frames with the other sockets of the group, flow by flow; 0: with those that will join `group_of(sock)`."""
    flags = _FANOUT_CBPF | _FANOUT_IGNORE_OUTGOING | (0 if group else _FANOUT_UNIQUE)
    try:
        sock.setsockopt(_SOL_PACKET, _FANOUT, group | flags << 16)
        code = fanout.program()
        buffer = ctypes.create_string_buffer(code, len(code))
        sock.setsockopt(_SOL_PACKET, _FANOUT_DATA, struct.pack("HP", len(code) // 8, ctypes.addressof(buffer)))
    except OSError as error:
        raise DriverError(f"af_packet: cannot join group={group} of {name!r} ({error.strerror}): all of a group are on one device "
                          "and alike; choose another number, or 0 for a new one") from None


def group_of(sock: socket.socket) -> int:
    return sock.getsockopt(_SOL_PACKET, _FANOUT) & 0xFFFF


def open_discovery(name: str) -> Ring:
    """A small receive ring for ARP and neighbour discovery, in both directions."""
    sock = _socket(name)
    _set(sock, _VERSION, _TPACKET_V2, "this kernel has no such rings")
    slot, slots, blocks = 2048, 2, 16
    _set(sock, _RX_RING, struct.pack("4I", slot * slots, blocks, slot, blocks * slots), "the receive ring is refused")
    code = [(_LDH, 0, 0, 12), (_JEQ, 6, 0, 0x0806), (_JEQ, 0, 6, 0x86DD), (_LDB, 0, 0, 20), (_JEQ, 0, 4, 58),
            (_LDB, 0, 0, 54), (_JGE, 0, 2, 133), (_JGT, 1, 0, 137), (_RET, 0, 0, 0xFFFF), (_RET, 0, 0, 0)]
    filter_ = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    memory = _map(sock, slot * slots * blocks)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(code), ctypes.addressof(filter_)))
        sock.bind((name, _ETH_P_ALL))
        sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP,
                        struct.pack("iHH8x", socket.if_nametoindex(name), _MR_ALLMULTI, 0))
    except OSError as error:
        memory.close()
        sock.close()
        raise DriverError(f"no packet socket for ARP and neighbour discovery of {name!r}: {error.strerror}") from None
    return Ring(sock, memory, blocks, slot * slots, slots, slot)


def open_transmit(name: str, *, frames: int, largest: int, qdisc_bypass: bool) -> Ring:
    """A transmit ring of slots for frames of `largest` bytes. The socket receives nothing."""
    sock = _socket(name)
    slot = SLOT if largest > 16384 else -(-(largest + 64) // 1024) * 1024
    blocks = -(-frames // SLOTS_PER_BLOCK)
    _set(sock, _VERSION, _TPACKET_V2, "this kernel has no such rings")
    _set(sock, _VNET_HDR, 1, "this kernel cannot be told what is unfinished in a frame (PACKET_VNET_HDR)")
    _set(sock, _LOSS, 1, "this kernel stops at a malformed frame (PACKET_LOSS)")
    if qdisc_bypass:
        _set(sock, _QDISC_BYPASS, 1, "qdisc_bypass=True: this kernel does not know it; use qdisc_bypass=False")
    _set(sock, _TX_RING, struct.pack("4I", SLOTS_PER_BLOCK * slot, blocks, slot, blocks * SLOTS_PER_BLOCK),
         "the transmit ring is refused; use fewer `frames`")
    room = blocks * SLOTS_PER_BLOCK * slot
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, room)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    memory = _map(sock, room)
    try:
        sock.bind((name, 0))
    except OSError as error:
        memory.close()
        sock.close()
        raise DriverError(f"af_packet: cannot send to {name!r}: {error.strerror}") from None
    return Ring(sock, memory, blocks, SLOTS_PER_BLOCK * slot, SLOTS_PER_BLOCK, slot)


def dropped(sock: socket.socket, blocks: bool) -> int:
    """Frames that the receive ring had no room for, since the last time."""
    size = 12 if blocks else 8
    return int(struct.unpack_from("II", sock.getsockopt(_SOL_PACKET, _STATISTICS, size))[1])


def exists(sock: socket.socket) -> bool:
    """Whether the device that a socket was bound to is still there."""
    return bool(sock.getsockname()[0])
