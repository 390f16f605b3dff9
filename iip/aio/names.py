"""Socket addresses as asyncio shows them, and the object that stands for a socket."""
from __future__ import annotations

import errno
import functools
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from iip.aio.reasons import os_error
from iip.connection import Connection

Address = IPv4Address | IPv6Address
SockName = tuple[str, int] | tuple[str, int, int, int]

ANY_PORT = -1                     # of servers and datagram endpoints: every port, the original one is in "sockname"


def sockname(address: Address, port: int) -> SockName:
    """(host, port), or with IPv6 (host, port, 0, 0)."""
    if address.version == 4:
        return socket.inet_ntop(socket.AF_INET, address.packed), port
    return socket.inet_ntop(socket.AF_INET6, address.packed), port, 0, 0


def literal(host: str) -> Address | None:
    """The address that a text is, or None. A zone (fe80::1%eth0) does not matter: there is one interface."""
    return _literal(host)


@functools.lru_cache(1024)
def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None


def family_of(address: Address | None) -> socket.AddressFamily:
    return socket.AF_INET if address is not None and address.version == 4 else socket.AF_INET6


_TCP_SETTINGS = {
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): ("nodelay", bool),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): ("keepalive", bool),
    (socket.SOL_SOCKET, socket.SO_SNDBUF): ("send_buffer", int),
    (socket.SOL_SOCKET, socket.SO_RCVBUF): ("receive_buffer", int),
    (socket.IPPROTO_IP, socket.IP_TTL): ("ttl", int),
    (socket.IPPROTO_IP, socket.IP_TOS): ("traffic_class", int),
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): ("ttl", int),
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): ("max_seg", int),
}
for _option, _attribute in (("TCP_KEEPIDLE", "keepalive_idle"), ("TCP_KEEPINTVL", "keepalive_interval"),
                            ("TCP_KEEPCNT", "keepalive_probes"), ("TCP_CORK", "cork"), ("TCP_QUICKACK", "quickack"),
                            ("TCP_NOTSENT_LOWAT", "unsent_low")):
    if hasattr(socket, _option):
        _TCP_SETTINGS[socket.IPPROTO_TCP, getattr(socket, _option)] = (
            _attribute, bool if _option in ("TCP_CORK", "TCP_QUICKACK") else int)
_IGNORED = {(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1)),
            (socket.SOL_SOCKET, socket.SO_BROADCAST), (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)}


class StackSocket:
    """What `get_extra_info("socket")` returns: names and options of an endpoint. No descriptor is behind it."""

    __slots__ = ("_connection", "_local", "_remote", "family", "proto", "type")

    def __init__(self, kind: socket.SocketKind, local: SockName, remote: SockName | None = None,
                 connection: Connection | None = None) -> None:
        self.family = socket.AF_INET6 if len(local) == 4 else socket.AF_INET
        self.type = kind
        self.proto = socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP
        self._local, self._remote, self._connection = local, remote, connection

    def getsockname(self) -> SockName:
        return self._local

    def getpeername(self) -> SockName:
        if self._remote is None:
            raise os_error(errno.ENOTCONN)
        return self._remote

    def fileno(self) -> int:
        return -1

    def gettimeout(self) -> float:
        return 0.0

    def getblocking(self) -> bool:
        return False

    def setblocking(self, on: bool) -> None:
        if on:
            raise ValueError("setblocking(): transports do not block")

    def settimeout(self, seconds: float | None) -> None:
        self.setblocking(seconds != 0)

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            return 0
        if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE):
            return self.type
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            linger = self._live().linger
            return struct.pack("ii", linger is not None, round(linger or 0))
        if (level, option) in _IGNORED:
            return 0
        name, _kind = self._setting(level, option)
        return int(getattr(self._live(), name))

    def setsockopt(self, level: int, option: int, value: int | bytes, length: int | None = None) -> None:
        if (level, option) in _IGNORED:
            return
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            on, seconds = struct.unpack("ii", value)  # type: ignore[arg-type]
            self._live().linger = seconds if on else None
            return
        name, kind = self._setting(level, option)
        number = value if isinstance(value, int) else int.from_bytes(value, "little")
        setattr(self._live(), name, kind(number))

    def _setting(self, level: int, option: int) -> tuple[str, type]:
        try:
            if self._connection is None:
                raise KeyError
            return _TCP_SETTINGS[level, option]
        except KeyError:
            raise os_error(errno.ENOPROTOOPT) from None

    def _live(self) -> Connection:
        if self._connection is None:
            raise os_error(errno.ENOPROTOOPT)
        if self._connection.closed:
            raise os_error(errno.EBADF)
        return self._connection

    def __repr__(self) -> str:
        return f"<iip.aio socket {self._local}{f' -> {self._remote}' if self._remote else ''}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(socket.socket, name):
            raise AttributeError(name)
        raise AttributeError(f"{name}: a transport's socket has names and options only; use the transport")
