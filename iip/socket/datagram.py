"""UDP sockets, and ICMP sockets for echo requests."""
from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, SockName
from iip.aio.reasons import os_error
from iip.errors import ConfigError
from iip.events import Datagram, IcmpError, IcmpReply
from iip.socket.base import Core, Place

if TYPE_CHECKING:
    from iip.socket.stack import Stack

End = tuple[Address, int]

_LARGEST = 65507
_OVERHEAD = 512                   # bytes that a waiting datagram costs besides its own
_PORT_UNREACHABLE = {(4, 3, 3), (6, 1, 4)}        # version, type, code
_BUFFER = 212992


class PacketCore(Core):
    """A queue of what was received, bounded by SO_RCVBUF: what does not fit is dropped, as by the kernel."""

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.queue: deque[tuple[bytes, SockName]] = deque()
        self._held = 0
        self.peer_end: End | None = None
        self.full = False             # the engine had no room
        self.deaf = False             # shutdown(SHUT_RD)

    def readable(self) -> bool:
        return bool(self.queue) or self.error is not None or self.deaf or self.fatal is not None

    def writable(self) -> bool:
        return not self.full

    def put(self, data: bytes, source: SockName) -> None:
        size = int(self.options.get((socket.SOL_SOCKET, socket.SO_RCVBUF), _BUFFER))
        if self.queue and self._held + len(data) + _OVERHEAD > size:
            return
        self._held += len(data) + _OVERHEAD
        self.queue.append((data, source))
        self.changed()

    def receive(self, timeout: float | None, peek: bool) -> tuple[bytes, SockName | None]:
        """The next one; b"" after shutdown."""
        self.wait(lambda: self.queue or self.error is not None or self.deaf, timeout)
        self.raise_pending()
        if not self.queue:
            return b"", None
        got = self.queue[0]
        if not peek:
            self.queue.popleft()
            self._held -= len(got[0]) + _OVERHEAD
            if not self.queue:
                self.changed()
        return got

    def send(self, data: bytes, to: End | None, timeout: float | None) -> int:
        to = to or self.peer_end
        if to is None:
            raise os_error(errno.EDESTADDRREQ)
        self.raise_pending()
        self.ready()
        while True:
            try:
                if self.hand_over(data, *to):
                    self.stack.wake()
                    return len(data)
            except ConfigError as error:
                raise os_error(errno.ENETUNREACH, str(error)) from None
            self.full = True
            self.stack.blocked.add(self)
            self.stack.wake()
            self.changed()
            self.wait(lambda: not self.full, timeout)

    def ready(self) -> None:
        """Before the first send."""

    def hand_over(self, data: bytes, address: Address, port: int) -> bool:
        """To the engine; False: no room."""
        raise NotImplementedError

    def source(self) -> Address | None:
        where = self.places[0][0] if self.places else None
        return None if isinstance(where, int) else where

    def hops(self, address: Address) -> int:
        """TTL by the options; 0: the stack's."""
        level, option = ((socket.IPPROTO_IP, socket.IP_MULTICAST_TTL if address.is_multicast else socket.IP_TTL)
                         if address.version == 4 else
                         (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS if address.is_multicast else socket.IPV6_UNICAST_HOPS))
        return max(0, min(int(self.options.get((level, option), 0)), 255))

    def connect(self, address: Address, port: int, timeout: float | None) -> None:
        """Only this peer from now on."""
        self.ready()
        try:
            source = self.source() or self.stack.engine.source(address)
        except ConfigError as error:
            raise os_error(errno.ENETUNREACH, str(error)) from None
        self.peer_end, self.peer = (address, port), self.name(address, port)
        self.local = self.name(source, self.port)
        self.queue = deque(got for got in self.queue if got[1] == self.peer)
        self._held = sum(len(data) + _OVERHEAD for data, _source in self.queue)
        self.changed()

    def disconnect(self) -> None:
        """connect() to AF_UNSPEC."""
        self.peer_end = self.peer = None

    def shutdown(self, how: int) -> None:
        if self.peer is None:
            raise os_error(errno.ENOTCONN)
        if how != socket.SHUT_WR:
            self.deaf = True
        self.changed()

    def finish(self) -> None:
        self.stack.blocked.discard(self)
        self.unbind()
        self.queue.clear()


class UdpCore(PacketCore):
    kind, proto = socket.SOCK_DGRAM, socket.IPPROTO_UDP

    def bind(self, address: Address, port: int) -> None:
        super().bind(address, port)
        self.stack.engine.udp_bind(max(self.port, 0))

    def ready(self) -> None:
        if not self.places:
            self.bind(self.stack.any_address(self.version), 0)

    def unbind(self) -> None:
        port, bound = self.port, bool(self.places)
        super().unbind()
        if bound and not self.stack.closed and not any(p == port for _address, p in self.stack.datagrams):
            self.stack.engine.udp_unbind(max(port, 0))

    def hand_over(self, data: bytes, address: Address, port: int) -> bool:
        if len(data) > _LARGEST:
            raise os_error(errno.EMSGSIZE)
        if port == 0:
            raise os_error(errno.EINVAL)
        tos = int(self.options.get((socket.IPPROTO_IP, socket.IP_TOS), 0)) if address.version == 4 else int(
            self.options.get((socket.IPPROTO_IPV6, socket.IPV6_TCLASS), 0))
        return self.stack.engine.udp_send(data, address, port, self.port, source=self.source(), ttl=self.hops(address),
                                          tos=tos)

    def arrived(self, datagram: Datagram) -> None:
        source = (datagram.source, datagram.source_port)
        if self.deaf or (self.peer_end is not None and source != self.peer_end):
            return
        self.put(bytes(datagram.data), self.name(*source))  # type: ignore[call-overload]

    def refused(self, error: IcmpError) -> None:
        if self.peer_end == (error.destination, error.destination_port):
            unreachable = (error.destination.version, error.type, error.code) in _PORT_UNREACHABLE
            self.error = os_error(errno.ECONNREFUSED if unreachable else errno.EHOSTUNREACH)
            self.changed()

    def table(self) -> dict[Place, Any]:
        return self.stack.datagrams


_ECHO_REQUEST = {4: 8, 6: 128}
_ECHO_REPLY = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")             # type, code, checksum, identifier, sequence number


class IcmpCore(PacketCore):
    """Echo requests out, replies in: SOCK_RAW sees the replies to all of them (IPv4 with an IP header, as Linux), SOCK_DGRAM those
    to its own identifier, which stands for the port."""

    def __init__(self, stack: Stack, family: int, raw: bool) -> None:
        super().__init__(stack, family)
        self.raw = raw
        self.kind = socket.SOCK_RAW if raw else socket.SOCK_DGRAM
        self.proto = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6

    def bind(self, address: Address, port: int) -> None:
        if self.raw:
            self.places = [(self.version if address.is_unspecified else address, 0)]
            self.local = self.name(address, 0)
        else:
            super().bind(address, port)

    def ready(self) -> None:
        if not self.places:
            self.bind(self.stack.any_address(self.version), 0)

    def hand_over(self, data: bytes, address: Address, port: int) -> bool:
        if len(data) < _HEADER.size:
            raise os_error(errno.EINVAL)
        kind, code, _checksum, ident, seq = _HEADER.unpack_from(data)
        if kind != _ECHO_REQUEST[self.version] or code:
            raise os_error(errno.EOPNOTSUPP, "ICMP sockets send echo requests")
        return self.stack.engine.ping(address, ident if self.raw else self.port, seq, data[_HEADER.size:], source=self.source(),
                                      ttl=self.hops(address))

    def replied(self, reply: IcmpReply) -> None:
        if reply.source.version != self.version or (not self.raw and reply.ident != self.port):
            return
        if self.peer_end is not None and self.peer_end[0] != reply.source:
            return
        self.put(self._packet(reply), self.name(reply.source, 0))

    def _packet(self, reply: IcmpReply) -> bytes:
        kind = _ECHO_REPLY[self.version]
        plain = _HEADER.pack(kind, 0, 0, reply.ident, reply.seq) + reply.data
        message = _HEADER.pack(kind, 0, _checksum(plain), reply.ident, reply.seq) + reply.data
        if self.version == 6 or not self.raw:
            return message
        ours = self.source() or self.stack.engine.source(reply.source)
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, reply.ttl, socket.IPPROTO_ICMP, 0,
                             reply.source.packed, ours.packed)
        return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + message

    def table(self) -> dict[Place, Any]:
        return self.stack.pings


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[:len(data) & ~1]))
    if len(data) & 1:
        total += data[-1] << 8
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
