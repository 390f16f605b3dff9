"""BSD sockets over the engine: what the calls of a script work on.

A call that cannot return yet raises WouldBlock; whoever made it calls again when the engine has run. A call that fails
raises CallFailed with the errno.
"""
from __future__ import annotations

import contextlib
from collections import deque
from typing import Any

from iip.connection import Reason, State
from iip.errors import ConnectionGone, IipError
from iip.script.error_queue import ErrorQueue
from iip.script.errors import CallFailed, WouldBlock
from iip.script.stack import Stack

_REASON_ERRNO = {Reason.RESET: "ECONNRESET", Reason.REFUSED: "ECONNREFUSED", Reason.TIMEOUT: "ETIMEDOUT",
                 Reason.UNREACHABLE: "EHOSTUNREACH", Reason.NO_MEMORY: "ENOMEM"}

IN, PRI, OUT, ERR, HUP, RDNORM, WRNORM, RDHUP = 1, 2, 4, 8, 16, 64, 256, 0x2000


# kept at the socket, and an attribute of its connection: (attribute, unit, lowest, highest)
AT_CONNECTION: dict[str, tuple[str, float, int, int]] = {
    "TCP_NODELAY": ("nodelay", 0, -(1 << 31), 1 << 31), "TCP_CORK": ("cork", 0, -(1 << 31), 1 << 31),
    "TCP_NOPUSH": ("cork", 0, -(1 << 31), 1 << 31), "SO_KEEPALIVE": ("keepalive", 0, -(1 << 31), 1 << 31),
    "SO_MAX_PACING_RATE": ("max_pacing_rate", 1, 0, 1 << 40), "TCP_QUICKACK": ("quickack", 0, -(1 << 31), 1 << 31),
    "TCP_KEEPIDLE": ("keepalive_idle", 1, 1, 32767), "TCP_KEEPINTVL": ("keepalive_interval", 1, 1, 32767),
    "TCP_KEEPCNT": ("keepalive_probes", 1, 1, 127), "TCP_USER_TIMEOUT": ("user_timeout", 0.001, 0, (1 << 31) - 1),
    "TCP_MAXUNACKTIME": ("user_timeout", 1, 0, (1 << 31) - 1), "TCP_NOTSENT_LOWAT": ("unsent_low", 1, 0, 1 << 32),
    "IP_TOS": ("traffic_class", 1, 0, 255), "IPV6_TCLASS": ("traffic_class", 1, -1, 255), "IP_TTL": ("ttl", 1, 1, 255),
    "IPV6_UNICAST_HOPS": ("ttl", 1, -1, 255)}

class Descriptor:
    """Anything with a file descriptor."""

    type = 0
    protocol = 0

    def __init__(self) -> None:
        self.nonblocking = False
        self.generation = 0           # changes with everything that an edge-triggered waiter would hear of
        self.closed = False

    def ready(self) -> int:
        """POLL* bits."""
        return IN | OUT | RDNORM | WRNORM

    def close(self) -> None:
        self.closed = True

    def read(self, n: int, flags: Any = None) -> bytes:
        raise CallFailed("EINVAL")

    def write(self, data: bytes, flags: Any = None) -> int:
        raise CallFailed("EINVAL")

    def timeout(self, name: str) -> int | None:
        """How long a call may block, µs; None: for ever."""
        return None


class File(Descriptor):
    """An opened file: endless zeros, takes everything."""

    def __init__(self, data: bytes | None = None) -> None:
        super().__init__()
        self.data, self.at = data, 0

    def read(self, n: int, flags: Any = None) -> bytes:
        if self.data is None:
            return bytes(n)
        out = self.data[self.at:self.at + n]
        self.at += len(out)
        return out

    def write(self, data: bytes, flags: Any = None) -> int:
        return len(data)


class Pipe(Descriptor):
    """One end of a pipe."""

    def __init__(self, buffer: bytearray) -> None:
        super().__init__()
        self.buffer = buffer

    def read(self, n: int, flags: Any = None) -> bytes:
        if not self.buffer:
            raise WouldBlock
        out = bytes(self.buffer[:n])
        del self.buffer[:n]
        return out

    def write(self, data: bytes, flags: Any = None) -> int:
        self.buffer += data
        return len(data)


class Socket(Descriptor):
    """What TCP and UDP sockets share."""

    def __init__(self, stack: Stack, version: int, family: int):
        super().__init__()
        self.stack, self.version, self.family = stack, version, family
        self.local: tuple[Any, int] | None = None
        self.remote: tuple[Any, int] | None = None
        self.error: str | None = None
        self.options: dict[str, Any] = {}

    def timeout(self, name: str) -> int | None:
        return self.options.get(name) or None

    def apply_options(self) -> None:
        """Settings that live at a connection."""

    def take_error(self) -> str | None:
        error, self.error = self.error, None
        return error

    def raise_error(self) -> None:
        error = self.take_error()
        if error:
            raise CallFailed(error)


class TcpSocket(Socket):
    type, protocol = 1, 6

    def __init__(self, stack: Stack, version: int, family: int):
        super().__init__(stack, version, family)
        self.conn: Any = None
        self.phase = "new"            # listening, connecting, connected, over
        self.rx = bytearray()
        self.fin_received = self.shut_rd = self.shut_wr = False
        self.connect_told = False
        self.backlog = 0
        self.queue: deque[TcpSocket] = deque()
        self.last_info: Any = None
        self.progress = 0             # bytes that a blocking write has queued so far
        self.error_queue = ErrorQueue(self)
        self.receive_space = 0        # bytes of window that SO_RCVBUF allows; 0: not set

    # -- from the engine -----------------------------------------------------------------------------------

    def admits(self, syn: Any) -> bool:
        return True

    def arrived(self, conn: Any) -> None:
        """A connection for this listener."""
        child = TcpSocket(self.stack, conn.local[0].version, self.family)
        child.options = dict(self.options)
        child.receive_space = self.receive_space
        child.attach(conn)
        child.phase = "connected"
        child.connect_told = True
        self.queue.append(child)
        self.generation += 1

    def attach(self, conn: Any) -> None:
        self.conn, conn.context = conn, self
        self.local, self.remote = conn.local, conn.remote
        self.apply_options()

    def apply_options(self) -> None:
        """Settings that live at the connection."""
        if self.conn is None:
            return
        options = self.options
        try:
            if "SO_SNDBUF" in options:
                self.conn.send_buffer = max(2048, options["SO_SNDBUF"])
            if self.receive_space:
                self.conn.receive_buffer = self.receive_space
        except ConnectionGone:
            pass
        for name in options:
            self.apply_option(name)

    def apply_option(self, name: str) -> None:
        """One option that is an attribute of the connection."""
        if self.conn is None or name not in AT_CONNECTION:
            return
        attribute, unit, _, _ = AT_CONNECTION[name]
        value = self.options[name]
        if value < 0:
            return                    # as usual
        with contextlib.suppress(ConnectionGone):
            setattr(self.conn, attribute, bool(value) if not unit else value if unit == 1 else value * unit)

    @property
    def corked(self) -> bool:
        return bool(self.options.get("TCP_CORK") or self.options.get("TCP_NOPUSH"))

    def connected(self) -> None:
        self.phase = "connected"
        self.generation += 1

    def payload(self, data: bytes) -> None:
        self.generation += 1
        if self.shut_rd:
            self.consume(len(data))
        else:
            self.rx += data

    def peer_done(self) -> None:
        self.fin_received = True
        self.generation += 1

    def over(self, reason: Any) -> None:
        self.generation += 1
        errno = _REASON_ERRNO.get(reason)
        if reason == Reason.UNREACHABLE and self.local:
            errno = self.stack.icmp.get(self.local[1], errno)
        if reason == Reason.RESET and self.fin_received:
            errno = "EPIPE"
        if errno and self.phase != "over":
            self.error = errno
        self.phase = "over"
        self.conn = None

    # -- state ---------------------------------------------------------------------------------------------

    def unacknowledged(self) -> int:
        try:
            return 0 if self.conn is None else int(self.conn.unacknowledged)
        except ConnectionGone:
            return 0

    def not_sent(self) -> int:
        try:
            return 0 if self.conn is None else int(self.conn.info().notsent_bytes)
        except ConnectionGone:
            return 0

    def lingers(self) -> bool:
        """close() waits for what is still to be sent and acknowledged."""
        linger = self.options.get("SO_LINGER", (0, 0))
        return bool(linger[0] and linger[1] and self.conn is not None and not self.conn.closed
                    and self.state.name not in ("FIN_WAIT_2", "TIME_WAIT", "CLOSED"))

    def consume(self, n: int) -> None:
        if self.conn is not None:
            with contextlib.suppress(ConnectionGone):
                self.conn.consume(n)

    @property
    def state(self) -> State:
        return State.CLOSED if self.conn is None else self.conn.state

    def send_room(self) -> int:
        try:
            return 0 if self.conn is None else int(self.conn.send_room)
        except ConnectionGone:
            return 0

    def ready(self) -> int:
        if self.phase == "listening":
            return IN | RDNORM if self.queue else 0
        bits = 0
        if self.error or self.error_queue:
            bits |= ERR
        if self.phase == "new":
            return OUT | WRNORM | HUP
        if self.phase == "connecting":
            return bits
        if self.rx or self.fin_received or self.shut_rd or self.phase == "over":
            bits |= IN | RDNORM
        if self.fin_received or self.shut_rd or self.phase == "over":
            bits |= RDHUP
        if self.phase == "over" or ((self.fin_received or self.shut_rd) and self.shut_wr):
            bits |= HUP
        if self.shut_wr or self.phase == "over" or self.writable():
            bits |= OUT | WRNORM
        return bits

    def writable(self) -> bool:
        """Room for a third of the buffer, and not more unsent data than TCP_NOTSENT_LOWAT allows."""
        low = self.options.get("TCP_NOTSENT_LOWAT")
        if low and self.conn is not None and self.not_sent() >= low:
            return False
        if self.send_room() == 0:
            return False
        return bool(3 * (self.conn.send_buffer - self.unacknowledged()) >= int(self.conn.send_buffer))

    # -- calls ---------------------------------------------------------------------------------------------

    def bind(self, address: Any, port: int) -> None:
        if self.local is not None:
            raise CallFailed("EINVAL")
        other = self.stack.listeners.get(port)
        if other is not None and not (other.options.get("SO_REUSEPORT") and self.options.get("SO_REUSEPORT")):
            raise CallFailed("EADDRINUSE")
        self.local = (address, port)

    def listen(self, backlog: int) -> None:
        if self.phase not in ("new", "listening"):
            raise CallFailed("EINVAL")
        if self.local is None:
            self.local = (None, 0)
        self.backlog = backlog
        self.phase = "listening"
        self.stack.listeners[self.local[1]] = self
        self.stack.engine.tcp_listen(self.local[1])

    def full(self, factor: float) -> bool:
        """Whether the connections that nobody has accepted are more than the backlog, or so many times it."""
        return len(self.queue) > int(factor * self.backlog)

    def accept(self) -> TcpSocket:
        if self.phase != "listening":
            raise CallFailed("EINVAL")
        if not self.queue:
            raise WouldBlock
        return self.queue.popleft()

    def connect(self, address: Any, port: int, data: bytes | None = None) -> None:
        if self.phase == "connected":
            if not self.connect_told:
                self.connect_told = True
                return
            raise CallFailed("EISCONN")
        if self.phase == "connecting":
            raise CallFailed("EALREADY")
        if self.phase == "listening":
            raise CallFailed("EISCONN")
        if self.phase == "over":
            self.raise_error()
            raise CallFailed("ECONNABORTED")
        source = self.local or (None, 0)
        try:
            conn = self.stack.engine.tcp_connect(address, port, source=source[0] or None, source_port=source[1], data=data)
        except IipError as error:
            raise CallFailed("ENETUNREACH" if "route" in str(error) else "EADDRNOTAVAIL") from None
        self.phase = "connecting"
        self.attach(conn)

    def wait_connected(self) -> int:
        """The result of a blocking connect."""
        if self.phase == "connecting":
            raise WouldBlock
        self.raise_error()
        self.connect_told = True
        return 0

    def disconnect(self) -> None:
        """connect() to AF_UNSPEC: forget the connection."""
        if self.conn is not None:
            self.conn.abort()
            self.conn.context = None
            self.conn = None
        self.phase, self.remote, self.error = "new", None, None
        self.rx.clear()
        self.fin_received = self.shut_rd = self.shut_wr = self.connect_told = False

    def read(self, n: int, flags: Any = None) -> bytes:
        if self.phase in ("new", "listening"):
            raise CallFailed("ENOTCONN")
        low = min(n, 1 if not flags or "waitall" not in flags else n)
        low = max(low, min(n, self.options.get("SO_RCVLOWAT", 1)))
        if len(self.rx) >= max(low, 1) or (self.rx and (self.fin_received or self.phase == "over")):
            out = bytes(self.rx[:n])
            if not flags or "peek" not in flags:
                del self.rx[:n]
                self.consume(len(out))
            return out
        if self.fin_received:
            return b""                # the end of the stream stands, whatever became of the connection
        self.raise_error()
        if self.shut_rd or self.phase == "over":
            return b""
        if n == 0:
            return b""
        raise WouldBlock

    def write(self, data: bytes, flags: Any = None) -> int:
        """Queue as much as there is room for; at least one byte."""
        if self.phase == "connecting":
            raise WouldBlock
        self.raise_error()
        if self.phase in ("new", "listening", "over") or self.shut_wr:
            raise CallFailed("EPIPE")
        if not data:
            return 0
        try:
            self.more(bool(flags and "more" in flags))
            taken = int(self.conn.send(data, reference=False))
        except (ConnectionGone, BrokenPipeError):
            raise CallFailed("EPIPE") from None
        if taken == 0:
            raise WouldBlock
        self.error_queue.written += taken
        return taken

    def more(self, on: bool) -> None:
        """MSG_MORE: hold short segments back for this call."""
        held = on or self.corked
        if self.conn.cork != held:
            self.conn.cork = held

    def shutdown(self, how: int) -> None:
        if how not in (0, 1, 2):
            raise CallFailed("EINVAL")
        if self.phase == "listening":
            if how != 1:
                self.stop_listening()
                self.phase = "new"
            return
        if self.phase in ("new", "over", "connecting") and not (self.phase == "over" and self.fin_received and
                                                                not self.shut_wr):
            if self.phase == "connecting":
                self.disconnect()
                return
            raise CallFailed("ENOTCONN")
        if how in (0, 2):
            self.shut_rd = True
        if how in (1, 2) and not self.shut_wr:
            self.shut_wr = True
            if self.conn is not None:
                self.conn.shutdown()

    def stop_listening(self) -> None:
        assert self.local is not None
        if self.stack.listeners.get(self.local[1]) is self:
            del self.stack.listeners[self.local[1]]
            self.stack.engine.tcp_listen(self.local[1], False)
        for child in self.queue:
            if child.conn is not None:
                child.conn.abort()
        self.queue.clear()

    def close(self) -> None:
        self.closed = True
        if self.phase == "listening":
            self.stop_listening()
            return
        if self.conn is None:
            return
        linger = self.options.get("SO_LINGER")
        if self.rx or linger == (1, 0):
            self.conn.abort()
        else:
            self.conn.close()

    def abort(self) -> None:
        if self.conn is not None:
            self.conn.abort()


class UdpSocket(Socket):
    type, protocol = 2, 17

    def __init__(self, stack: Stack, version: int, family: int):
        super().__init__(stack, version, family)
        self.queue: deque[tuple[bytes, Any, int]] = deque()
        self.shut_rd = self.shut_wr = False
        self.corked = b""
        self.spoken_to: tuple[Any, int] | None = None    # where the latest datagram went

    def arrived(self, datagram: Any) -> None:
        if self.remote and (datagram.source, datagram.source_port) != self.remote:
            return
        self.queue.append((bytes(datagram.data), datagram.source, datagram.source_port))
        self.generation += 1

    def failed(self, errno: str, error: Any) -> None:
        if self.remote or self.options.get("IP_RECVERR") or self.options.get("IPV6_RECVERR"):
            self.error = errno
            self.generation += 1

    def ready(self) -> int:
        bits = OUT | WRNORM | (ERR if self.error else 0)
        return bits | (IN | RDNORM if self.queue or self.shut_rd else 0)

    def bind(self, address: Any, port: int) -> None:
        if self.local is not None:
            raise CallFailed("EINVAL")
        if port in self.stack.udp:
            raise CallFailed("EADDRINUSE")
        port = port or next(p for p in range(40000, 65536) if p not in self.stack.udp)
        self.local = (address, port)
        self.stack.udp[port] = self
        self.stack.engine.udp_bind(port)

    def connect(self, address: Any, port: int) -> None:
        if self.local is None:
            self.bind(None, 0)
        self.remote = (address, port)

    def read(self, n: int, flags: Any = None) -> bytes:
        return self.receive(n, flags)[0]

    def receive(self, n: int, flags: Any = None) -> tuple[bytes, Any, int, int]:
        """Data, source address, source port, whole length."""
        self.raise_error()
        if not self.queue:
            if self.shut_rd:
                return b"", None, 0, 0
            raise WouldBlock
        data, source, port = self.queue[0]
        if not flags or "peek" not in flags:
            self.queue.popleft()
        return data[:n], source, port, len(data)

    def write(self, data: bytes, flags: Any = None, to: tuple[Any, int] | None = None) -> int:
        self.raise_error()
        to = to or self.remote
        if self.shut_wr:
            raise CallFailed("EPIPE")
        if to is None:
            raise CallFailed("EDESTADDRREQ")
        if self.local is None:
            self.bind(None, 0)
        if (flags and "more" in flags) or self.options.get("UDP_CORK"):
            self.corked += data
            return len(data)
        whole, self.corked = self.corked + data, b""
        if len(whole) > 65507:
            raise CallFailed("EMSGSIZE")
        self.send(whole, to)
        return len(data)

    def send(self, data: bytes, to: tuple[Any, int]) -> None:
        assert self.local is not None
        try:
            sent = self.stack.engine.udp_send(
                data, to[0], to[1], self.local[1], source=self.local[0] or None, ttl=self.options.get("IP_TTL", 0),
                tos=self.options.get("IP_TOS", 0), dont_fragment=self.options.get("IP_MTU_DISCOVER", 1) in (2, 3))
        except ValueError:
            raise CallFailed("EMSGSIZE") from None
        except IipError as error:
            raise CallFailed("EMSGSIZE" if "fit" in str(error) or "big" in str(error) else "ENETUNREACH") from None
        if not sent:
            raise CallFailed("ENOBUFS")

    def flush(self) -> None:
        if self.corked and self.remote:
            data, self.corked = self.corked, b""
            self.send(data, self.remote)

    def shutdown(self, how: int) -> None:
        if self.remote is None:
            raise CallFailed("ENOTCONN")
        self.shut_rd = self.shut_rd or how in (0, 2)
        self.shut_wr = self.shut_wr or how in (1, 2)

    def close(self) -> None:
        self.closed = True
        if self.local is not None and self.stack.udp.get(self.local[1]) is self:
            del self.stack.udp[self.local[1]]
            self.stack.engine.udp_unbind(self.local[1])
