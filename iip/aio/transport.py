"""The transport of a TCP connection: flow control both ways, nothing copied twice."""
from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iip.aio.handler import Sink
from iip.aio.limits import WriteLimits
from iip.aio.names import SockName, StackSocket, sockname
from iip.aio.reasons import closed_error
from iip.connection import Connection, Reason
from iip.errors import IipError

if TYPE_CHECKING:
    from iip.aio.server import Server
    from iip.aio.stack import Stack

_REFERENCE = 4096                 # bytes of a rest from which on it is lent to the engine instead of copied


class StreamTransport(WriteLimits, asyncio.Transport):
    """Made by `Stack`; what `asyncio.Transport` documents holds. Calls of the protocol happen while the engine runs, but
    `connection_lost` in a turn of the loop of its own."""

    _start_tls_compatible = True

    def __init__(self, stack: Stack, conn: Connection, protocol: asyncio.BaseProtocol, server: Server | None = None) -> None:
        super().__init__()
        self._stack, self._conn, self._server = stack, conn, server
        self._local, self._remote = sockname(*conn.local), sockname(*conn.remote)
        self._socket: StackSocket | None = None
        self._alive = True        # bytes can be exchanged with the connection
        self._closing = False     # by us, or the protocol is about to learn that it is over
        self._lost = False        # connection_lost was called or is about to be
        self._eof = False         # write_eof was called
        self._waiting: deque[bytes | memoryview] = deque()
        self._held: list[bytes] = []          # came after the protocol had paused
        self._held_eof = False                # and so did the peer's FIN
        self._protocol_paused = False
        self._sink = Sink(self)
        self.set_protocol(protocol)
        conn.nodelay = True
        conn.context = self._sink
        if server is not None:
            server.attach(self)
        stack.transports.add(self)

    def begin(self) -> None:
        """Let the protocol begin."""
        try:
            self._protocol.connection_made(self)
        except BaseException as error:
            self.protocol_failed(error)

    # -- what is known -------------------------------------------------------------------------------------
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of `name`: "peername", "sockname" (behind a transparent proxy's listener the original destination), "socket",
        "connection" (the `iip.Connection`), "tcp_info" (its `iip.TcpInfo` at this moment)."""
        if name == "peername":
            return self._remote
        if name == "sockname":
            return self._local
        if name == "socket":
            if self._socket is None:
                self._socket = StackSocket(socket.SOCK_STREAM, self._local, self._remote, self._conn)
            return self._socket
        if name == "connection":
            return self._conn
        if name == "tcp_info":
            return default if self._conn.closed else self._conn.info()
        return super().get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        sink = self._sink
        if isinstance(protocol, asyncio.BufferedProtocol):
            sink.data_received, sink.get_buffer, sink.buffer_updated = None, protocol.get_buffer, protocol.buffer_updated
        else:
            # SubprocessProtocol and the like have none; what fails then fails as with asyncio
            sink.data_received = getattr(protocol, "data_received", None) or _no_data

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    # -- reading -------------------------------------------------------------------------------------------
    def is_reading(self) -> bool:
        return not self._sink.held and not self._closing

    def pause_reading(self) -> None:
        if self._closing or self._sink.held:
            return
        self._sink.held = True
        if self._alive:
            self._conn.pause()    # the window closes: the peer stops

    def resume_reading(self) -> None:
        if self._closing or not self._sink.held:
            return
        self._sink.held = False
        if self._held or self._held_eof:
            self._stack.loop.call_soon(self._resume)
        elif self._alive:
            self._conn.resume()
            self._stack.wake()

    def _resume(self) -> None:
        """First what came late, then what the engine has."""
        held, self._held = self._held, []
        try:
            while held and not self._sink.held and not self._sink.over:
                rest = self._sink.feed(held.pop(0))
                if rest:
                    held.insert(0, rest)
        except BaseException as error:
            held.clear()
            self.protocol_failed(error)
        if self._closing:
            return
        self._held = held + self._held
        if self._sink.held:
            return
        if self._held_eof:
            self._held_eof = False
            self.shutdown()
        elif self._alive:
            self._conn.resume()
            self._stack.wake()

    def hold(self, data: bytes) -> None:
        """Bytes that came although the protocol has paused: the rest of a packet, or of a connection that is over."""
        self._held.append(data)

    def shutdown(self) -> None:
        """The peer sent FIN."""
        if self._closing:
            return
        if self._sink.held:
            self._held_eof = True
            return
        try:
            keep = self._protocol.eof_received()  # type: ignore[attr-defined]
        except BaseException as error:
            self.protocol_failed(error)
            return
        if not keep:
            self.close()

    def closed(self, reason: Reason) -> None:
        """The engine's connection is over."""
        self._alive = False
        if self._closing:
            self._lose(closed_error(reason))
        elif reason != Reason.NORMAL:
            self.fail(closed_error(reason))
        # otherwise both directions were shut down, and the protocol knows: the transport waits for close()

    # -- writing -------------------------------------------------------------------------------------------
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._lost or not data:
            return
        if type(data) is memoryview:
            data = data.cast("B") if data.c_contiguous else data.tobytes()
        taken = self._conn.send(data) if not self._waiting and self._alive else 0
        if taken < len(data):
            # bytes do not change: the rest may refer to them
            self._wait(memoryview(data)[taken:] if type(data) is bytes else bytes(data[taken:]))
        if taken and not self._stack.awake:
            self._stack.wake()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def _wait(self, data: bytes | memoryview) -> None:
        self._waiting.append(data)
        self._size += len(data)
        self._sink.blocked = True
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._tell(self._protocol.pause_writing, "pause_writing")

    def room(self) -> None:
        """The peer acknowledged something: more fits into the send buffer."""
        waiting, conn = self._waiting, self._conn
        while waiting and self._alive:
            data = waiting[0]
            taken = conn.send(data, reference=len(data) > _REFERENCE)
            self._size -= taken
            if taken < len(data):
                waiting[0] = memoryview(data)[taken:]
                break
            waiting.popleft()
        if not waiting:
            self._sink.blocked = False
            if self._closing:
                self._finish()
            elif self._eof:
                conn.shutdown()
        if self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._tell(self._protocol.resume_writing, "resume_writing")

    def _tell(self, method: Any, name: str) -> None:
        try:
            method()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, f"protocol.{name}() failed")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._tell(self._protocol.pause_writing, "pause_writing")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing or self._eof:
            return
        self._eof = True
        if not self._waiting and self._alive:
            self._conn.shutdown()
            self._stack.wake()

    # -- ending --------------------------------------------------------------------------------------------
    def close(self) -> None:
        """What was written is still sent; nothing more is received."""
        if self._closing:
            return
        self._closing = self._sink.over = True
        if not self._waiting or not self._alive:
            self._finish()
        elif self._sink.held:
            self._conn.resume()   # so that the peer's FIN or RST is seen
            self._stack.wake()

    def _finish(self) -> None:
        """Everything is in the engine's hands, which sends it and a FIN; the protocol's part is over."""
        if self._alive:
            self._conn.context = None
            self._stack.linger(self._conn)
            self._conn.close()
            self._stack.wake()
        self._lose(None)

    def abort(self) -> None:
        self.fail(None)

    def fail(self, error: BaseException | None) -> None:
        """The end at once: RST if the connection still is, what waits is dropped."""
        if self._lost:
            return
        if self._alive:
            self._conn.context = None
            self._conn.abort()
            self._stack.wake()
        self._lose(error)

    _force_close = fail           # the name by which asyncio's TLS knows it

    def _lose(self, error: BaseException | None) -> None:
        """No more to do for the connection: `connection_lost` follows."""
        if self._lost:
            return
        self._closing = self._lost = self._sink.over = True
        self._alive = self._sink.blocked = False
        self._waiting.clear()
        self._held.clear()
        self._size = 0
        self._stack.transports.discard(self)
        self._stack.soon(self._call_connection_lost, error)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]
        finally:
            self._conn.context = None
            server, self._server = self._server, None
            if server is not None:
                server.detach(self)

    def protocol_failed(self, error: BaseException) -> None:
        """The protocol raised while it was given something: the loop hears of it, the connection ends."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        if isinstance(error, IipError) or not isinstance(error, OSError):
            self._report(error, "Fatal error: a callback of the protocol failed.")
        self.fail(error)

    def _report(self, error: BaseException, message: str) -> None:
        self._stack.loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol})

    def names(self) -> tuple[SockName, SockName]:
        return self._local, self._remote

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<iip.aio.StreamTransport {self._local} {self._remote} {state}>"


def _no_data(data: bytes) -> None:
    raise AttributeError("the protocol has no method data_received")
