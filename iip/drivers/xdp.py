"""Programs and sockets of XDP: the slow part of `iip.drivers.af_xdp`."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import mmap
import os
import platform
import socket
import struct
import sys
from collections.abc import Iterable
from typing import NamedTuple

from iip.drivers import ethtool
from iip.errors import ConfigError, DriverError

_AF_XDP, _SOL_XDP = 44, 283
_MMAP_OFFSETS, _RX_RING, _TX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING, _STATISTICS, _OPTIONS, _BUDGET = range(1, 10)
_PAGE_OFFSETS = {"rx": 0, "tx": 0x80000000, "fill": 0x100000000, "completion": 0x180000000}
_COPY, _ZEROCOPY, _NEED_WAKEUP, _SG = 2, 4, 8, 16
_SO_BUSY_POLL, _SO_PREFER_BUSY_POLL, _SO_BUSY_POLL_BUDGET = 46, 69, 70

_SYS_BPF = {"x86_64": 321, "i686": 357, "aarch64": 280, "armv7l": 386, "riscv64": 280, "loongarch64": 280, "ppc64le": 361,
            "s390x": 351}
_MAP_CREATE, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD, _LINK_CREATE = 0, 2, 3, 5, 28
_XSKMAP, _PROG_XDP, _ATTACH_XDP = 17, 6, 37
_HAS_FRAGS = 1 << 5
_GENERIC, _NATIVE = 2, 4          # XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE

_libc = ctypes.CDLL(None, use_errno=True)


# -- the program ---------------------------------------------------------------------------------------------

# opcodes of BPF (RFC 9669)
_LD64, _MOV, _MOV_K, _ADD_K, _CALL, _EXIT = 0x18, 0xBF, 0xB7, 0x07, 0x85, 0x95
_LDW, _LDH, _LDB = 0x61, 0x69, 0x71
_JA, _JGT, _JEQ32_K, _JNE32_K = 0x05, 0x2D, 0x16, 0x56
_PSEUDO_MAP_FD, _REDIRECT_MAP, _PASS = 1, 51, 2
_DATA, _DATA_END, _QUEUE = 0, 4, 16          # fields of struct xdp_md
_ETHERTYPE, _ARP_TARGET, _IP4_TO, _IP6_TO, _IP6_NEXT, _ICMP6_TYPE, _ICMP6 = 12, 38, 30, 38, 20, 54, 58

Instruction = tuple[int, int, int, "int | str", int]      # opcode, destination, source, offset or label, immediate


def _number(octets: bytes) -> int:
    """What a load of these bytes gives, as a signed immediate."""
    value = int.from_bytes(octets, sys.byteorder)
    return value - (1 << 32) if value >> 31 else value


def _room(n: int) -> list[Instruction]:
    """Give up unless the frame (from r2 to r3) has `n` bytes."""
    return [(_MOV, 4, 2, 0, 0), (_ADD_K, 4, 0, 0, n), (_JGT, 4, 3, "pass", 0)]


def program(addresses: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address], table: int, shared: bool = False) -> bytes:
    """Bytecode that hands packets for `addresses`, and ARP and neighbour discovery for them, to the socket of their queue in
    `table`. Everything else goes to the kernel; with no addresses nothing does. shared: ARP and neighbour discovery do."""
    four = [a.packed for a in addresses if a.version == 4]
    six = [a.packed for a in addresses if a.version == 6]
    six += [b"\xff\x02" + bytes(9) + b"\x01\xff" + a[13:] for a in six if a[0] != 0xFF]      # RFC 4291 §2.7.1: solicited-node
    some = bool(four or six)
    other = "pass" if some else "ours"
    code: list[Instruction | str] = [(_LDW, 7, 1, _QUEUE, 0)]
    if some or shared:
        code += [(_LDW, 2, 1, _DATA, 0), (_LDW, 3, 1, _DATA_END, 0), *_room(34), (_LDH, 5, 2, _ETHERTYPE, 0),
                 (_JEQ32_K, 5, 0, "ip4" if some else "ours", _number(b"\x08\x00")),
                 (_JEQ32_K, 5, 0, "pass" if shared else "arp", _number(b"\x08\x06")),
                 (_JNE32_K, 5, 0, other, _number(b"\x86\xdd")), *_room(54)]
        code += _six(six, "discovery" if shared else "ours") if some else [(_JA, 0, 0, "discovery", 0)]
        if shared and (six or not some):           # the kernel takes no code that is never reached
            code += ["discovery", (_LDB, 4, 2, _IP6_NEXT, 0), (_JNE32_K, 4, 0, "ours", _ICMP6), (_MOV, 4, 2, 0, 0),
                     (_ADD_K, 4, 0, 0, 55), (_JGT, 4, 3, "ours", 0), (_LDB, 4, 2, _ICMP6_TYPE, 0),
                     *((_JEQ32_K, 4, 0, "pass", kind) for kind in range(133, 138)), (_JA, 0, 0, "ours", 0)]
        if some and not shared:
            code += ["arp", *_room(42), (_LDW, 4, 2, _ARP_TARGET, 0), (_JA, 0, 0, "compare", 0)]
        if some:
            code += ["ip4", (_LDW, 4, 2, _IP4_TO, 0), "compare", *((_JEQ32_K, 4, 0, "ours", _number(a)) for a in four)]
        code += ["pass", (_MOV_K, 0, 0, 0, _PASS), (_EXIT, 0, 0, 0, 0)]
    code += ["ours", (_LD64, 1, _PSEUDO_MAP_FD, 0, table), (0, 0, 0, 0, 0), (_MOV, 2, 7, 0, 0), (_MOV_K, 3, 0, 0, _PASS),
             (_CALL, 0, 0, 0, _REDIRECT_MAP), (_EXIT, 0, 0, 0, 0)]
    return assemble(code)


def _six(addresses: Iterable[bytes], found: str) -> list[Instruction | str]:
    """Compare the destination of an IPv6 packet."""
    code: list[Instruction | str] = [(_LDW, r, 2, _IP6_TO + 4 * i, 0) for i, r in enumerate((4, 5, 8, 9))]
    for a in addresses:
        words = [_number(a[i:i + 4]) for i in range(0, 16, 4)]
        code += [(_JNE32_K, 4, 0, 3, words[0]), (_JNE32_K, 5, 0, 2, words[1]), (_JNE32_K, 8, 0, 1, words[2]),
                 (_JEQ32_K, 9, 0, found, words[3])]
    return [*code, (_JA, 0, 0, "pass", 0)]


def assemble(code: list[Instruction | str]) -> bytes:
    labels: dict[str, int] = {}
    instructions: list[Instruction] = []
    for line in code:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    out = bytearray()
    for at, (op, dst, src, off, imm) in enumerate(instructions):
        jump = labels[off] - at - 1 if isinstance(off, str) else off
        registers = src << 4 | dst if sys.byteorder == "little" else dst << 4 | src
        out += struct.pack("BBhi", op, registers, jump, imm)
    return bytes(out)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise DriverError(f"af_xdp: not known for processors of kind {platform.machine()}; use iip.drivers.AfPacket")
    buffer = ctypes.create_string_buffer(attributes, max(128, len(attributes)))
    done = int(_libc.syscall(number, command, buffer, len(buffer)))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return done


def load(kind: int, code: bytes, attach: int = 0) -> int:
    """Give the kernel a program of a kind (BPF_PROG_TYPE_...); its descriptor. Raises `OSError`."""
    buffer, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"BSD")
    for flags in ([_HAS_FRAGS] if attach == _ATTACH_XDP else []) + [0]:      # which kernels before 5.18 do not know
        try:
            return _bpf(_PROG_LOAD, struct.pack("IIQQIIQII16sII", kind, len(code) // 8, ctypes.addressof(buffer),
                                                ctypes.addressof(licence), 0, 0, 0, 0, flags, b"iip", 0, attach))
        except OSError as error:
            if error.errno != errno.EINVAL or not flags:
                raise
    raise AssertionError


class Program:
    """The XDP program on a device, for all sockets of this process there. It goes with the last of them, or the process."""

    def __init__(self, name: str, addresses: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address], mode: str,
                 shared: bool) -> None:
        self.users = 1
        self.shared = shared      # each socket learns its neighbours by other means
        self.native = False
        self.table = self.code = self.link = -1
        queues = ethtool.rx_queues(name)
        try:
            self.table = _bpf(_MAP_CREATE, struct.pack("5I", _XSKMAP, 4, 4, max(queues, 64), 0))
            self.code = load(_PROG_XDP, program(list(addresses), self.table, shared), _ATTACH_XDP)
            self._attach(name, mode)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, DriverError):
                raise DriverError(_explain(name, error)) from None
            raise

    def _attach(self, name: str, mode: str) -> None:
        kinds = {"auto": [_NATIVE, _GENERIC], "native": [_NATIVE], "generic": [_GENERIC]}[mode]
        for kind in kinds:
            try:
                self.link = _bpf(_LINK_CREATE, struct.pack("4I", self.code, socket.if_nametoindex(name), _ATTACH_XDP, kind))
                self.native = kind == _NATIVE
                return
            except OSError as error:
                if kind == kinds[-1] or error.errno in (errno.EBUSY, errno.EEXIST, errno.EPERM):
                    raise

    def add(self, queue: int, fd: int) -> None:
        key, value = ctypes.c_uint32(queue), ctypes.c_uint32(fd)
        _bpf(_MAP_UPDATE, struct.pack("IIQQQ", self.table, 0, ctypes.addressof(key), ctypes.addressof(value), 0))

    def release(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.close()

    def close(self) -> None:
        for fd in (self.link, self.code, self.table):
            if fd >= 0:
                os.close(fd)
        self.table = self.code = self.link = -1


def _explain(name: str, error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return (f"af_xdp: no permission to use {name!r}: it needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, and enough locked memory "
                "(`ulimit -l`); run as root")
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return (f"af_xdp: {name!r} has an XDP program already; stop the program that it belongs to, or, if that is gone, "
                f"`ip link set dev {name} xdp off`")
    if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ERANGE, errno.ENOSPC):
        return (f"af_xdp: {name!r} does not take an XDP program in this mode ({error.strerror}); use mode='generic', a smaller "
                "MTU, or iip.drivers.AfPacket")
    return f"af_xdp: no XDP program for {name!r}: {error.strerror}"


def address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_interface(text).ip    # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError(f"addresses: {error}; write them like 10.0.0.1 or fd00::1") from None


# -- sockets -------------------------------------------------------------------------------------------------

class Ring(NamedTuple):
    """Memory shared with the kernel: offsets of its parts."""

    memory: mmap.mmap
    producer: int
    consumer: int
    entries: int
    flags: int


def open_socket(name: str) -> socket.socket:
    if not sys.platform.startswith("linux"):
        raise DriverError("af_xdp: XDP exists on Linux only; use iip.drivers.Tunnel here")
    try:
        return socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise DriverError(_explain(name, error)) from None
        raise DriverError(f"af_xdp: this kernel has no XDP sockets ({error.strerror}); use iip.drivers.AfPacket") from None


def register(sock: socket.socket, start: int, size: int, cell: int) -> None:
    """Give the kernel the memory of a pool."""
    try:
        sock.setsockopt(_SOL_XDP, _UMEM_REG, struct.pack("QQIIII", start, size, cell, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.ENOBUFS, errno.ENOMEM):
            raise DriverError(f"af_xdp: {size} bytes of the packet pool cannot be locked in memory; raise `ulimit -l`, run as "
                              "root, or use smaller pool_packets") from None
        raise DriverError(f"af_xdp: the kernel does not take the packet pool ({error.strerror}); "
                          "use packet_size=2048 or 4096") from None


def rings(sock: socket.socket, size: int) -> dict[str, Ring]:
    """The four rings of a socket, of `size` entries each."""
    for option in (_FILL_RING, _COMPLETION_RING, _RX_RING, _TX_RING):
        sock.setsockopt(_SOL_XDP, option, size)
    offsets = struct.unpack("16Q", sock.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
    made: dict[str, Ring] = {}
    for i, (which, entry) in enumerate((("rx", 16), ("tx", 16), ("fill", 8), ("completion", 8))):
        producer, consumer, entries, flags = offsets[4 * i:4 * i + 4]
        memory = mmap.mmap(sock.fileno(), entries + size * entry, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0),
                           offset=_PAGE_OFFSETS[which])
        made[which] = Ring(memory, producer, consumer, entries, flags)
    return made


def bind(sock: socket.socket, name: str, queue: int, zero_copy: bool | None, several: bool) -> bool:
    """Connect a socket to a queue of a device; whether it is without copies. several: frames may have several pieces."""
    flags = _NEED_WAKEUP | (_SG if several else 0) | {None: 0, True: _ZEROCOPY, False: _COPY}[zero_copy]
    where = ctypes.create_string_buffer(struct.pack("HHIII", _AF_XDP, flags, socket.if_nametoindex(name), queue, 0), 16)
    if _libc.bind(sock.fileno(), where, 16):
        code = ctypes.get_errno()
        if code == errno.EBUSY:
            remedy = f"queue={queue} has a socket already; choose another queue or stop the program that has it"
        elif code == errno.EINVAL:
            remedy = f"there is no queue={queue}, or it cannot do what is asked; `ethtool -l {name}` shows how many there are"
        elif code == errno.EOPNOTSUPP:
            remedy = ("the device cannot do without copies, or not with frames in several pieces; use zero_copy=None, and an MTU "
                      "for which one packet of the pool is enough")
        else:
            remedy = "see the kernel's log"
        raise DriverError(f"af_xdp: cannot bind to {name!r} ({os.strerror(code)}): {remedy}")
    return bool(struct.unpack("I", sock.getsockopt(_SOL_XDP, _OPTIONS, 4))[0] & 1)


def tune(sock: socket.socket, budget: int, busy_poll: int) -> None:
    """Let one system call send up to `budget` frames where the kernel allows that; poll the device for `busy_poll` µs."""
    with contextlib.suppress(OSError):      # kernels before 6.16: 32
        sock.setsockopt(_SOL_XDP, _BUDGET, budget)
    if busy_poll:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_PREFER_BUSY_POLL, 1)
            sock.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL, busy_poll)
            sock.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL_BUDGET, 64)
        except OSError as error:
            raise DriverError(f"busy_poll={busy_poll}: the kernel refuses it ({error.strerror}); use busy_poll=0, or run as root "
                              "on Linux 5.11 or later") from None


def dropped(sock: socket.socket) -> dict[str, int]:
    """What the kernel could not hand over."""
    values = struct.unpack("6Q", sock.getsockopt(_SOL_XDP, _STATISTICS, 48))
    return {"rx_dropped": values[0], "rx_ring_full": values[3], "rx_no_buffer": values[4], "tx_invalid": values[2]}
