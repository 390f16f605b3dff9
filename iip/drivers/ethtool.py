"""What a network device can do, asked and set as ethtool(8) does: the slow part of the drivers of real devices."""
from __future__ import annotations

import ctypes
import errno
import socket
import struct

from iip.drivers.device import ifreq
from iip.errors import DriverError

_SIOCETHTOOL = 0x8946
_SIOCGIFHWADDR = 0x8927
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_GCHANNELS, _STXCSUM = 0x3C, 0x17
_SS_FEATURES = 4
_STRING = 32                      # bytes of a feature's name


def _ask(name: str, request: bytes) -> bytes:
    """The answer of the kernel, as long as the request."""
    buffer = ctypes.create_string_buffer(request, len(request))
    ifreq(name, _SIOCETHTOOL, struct.pack("P", ctypes.addressof(buffer)))
    return buffer.raw


def features(name: str) -> set[str]:
    """The names of the features that are on, like ``tx-tcp-segmentation``; empty if the device does not tell."""
    try:
        n = struct.unpack_from("I", _ask(name, struct.pack("IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0)), 16)[0]
        strings = _ask(name, struct.pack("III", _GSTRINGS, _SS_FEATURES, n) + bytes(n * _STRING))[12:]
        blocks = (n + 31) // 32
        answer = _ask(name, struct.pack("II", _GFEATURES, blocks) + bytes(16 * blocks))
    except OSError:
        return set()
    found = set()
    for i in range(n):
        active = struct.unpack_from("IIII", answer, 8 + 16 * (i // 32))[2]
        if active >> (i % 32) & 1:
            found.add(strings[i * _STRING:(i + 1) * _STRING].split(b"\0", 1)[0].decode())
    return found


def rx_queues(name: str) -> int:
    """How many receive queues the device has; 1 if it does not tell."""
    try:
        channels = struct.unpack("9I", _ask(name, struct.pack("9I", _GCHANNELS, *([0] * 8))))
    except OSError:
        return 1
    return max(1, int(channels[5]) + int(channels[8]))      # receive only, and combined


def set_tx_checksum(name: str, on: bool) -> None:
    """Whether the kernel may leave checksums of what it sends there unfinished. Without it frames are not large either."""
    _ask(name, struct.pack("II", _STXCSUM, on))


def station_address(kind: str, name: str) -> bytes:
    """The MAC address of an Ethernet device. Raises `DriverError` if there is none of that name, or it is no such device."""
    try:
        socket.if_nametoindex(name)
        family, mac = struct.unpack_from("H6s", ifreq(name, _SIOCGIFHWADDR, b""))
    except (OSError, ValueError, UnicodeError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENODEV):
            raise
        raise DriverError(f"{kind}: there is no device {name!r}; `ip link` shows those there are") from None
    if family == _ARPHRD_LOOPBACK or family != _ARPHRD_ETHER:
        raise DriverError(f"{kind}: {name!r} is not an Ethernet device; choose one that is, or for IP packets iip.drivers.Tun")
    return bytes(mac)
