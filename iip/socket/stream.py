"""TCP sockets."""
from __future__ import annotations

import errno
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, SockName
from iip.aio.reasons import closed_error, open_error, os_error
from iip.connection import Connection, Reason
from iip.errors import IipError
from iip.socket import options
from iip.socket.base import Core, Place, find
from iip.socket.handler import head, head_into

if TYPE_CHECKING:
    from iip.socket.stack import Stack

BACKLOG = 128                     # connections that may wait for accept, however small the number given to listen
_QUANTUM = 1 << 16                # bytes that were read before the window opens by them
_REFERENCE = 4096                 # bytes from which on a rest of bytes is lent to the engine

NEW, CONNECTING, CONNECTED, LISTENING, OVER = range(5)


class StreamCore(Core):
    kind, proto = socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, stack: Stack, family: int) -> None:
        super().__init__(stack, family)
        self.state = NEW
        self.buffer = bytearray()     # received and not read
        self._read = 0                # read, and the window not opened by it
        self._quantum = _QUANTUM
        self.eof = False              # the peer's FIN came, or SHUT_RD
        self.sent_fin = False
        self.full = False             # the last send came short
        self._told = True             # connect() has returned 0
        self.backlog = 0
        self.queue: deque[StreamCore] = deque()       # accepted connections

    # -- what can be done ------------------------------------------------------------------------------------
    def readable(self) -> bool:
        if self.state == LISTENING:
            return bool(self.queue)
        return bool(self.buffer) or self.eof or self.error is not None or self.state == OVER or self.fatal is not None

    def writable(self) -> bool:
        if self.state == CONNECTED:
            return not self.full or self.error is not None
        return self.state in (NEW, OVER) or self.error is not None or self.fatal is not None

    def hung(self) -> bool:
        return self.state == OVER or self.fatal is not None

    # -- events ----------------------------------------------------------------------------------------------
    def connected(self) -> None:
        assert self.conn is not None
        self.state, self._told = CONNECTED, False
        self._name()
        self.changed()

    def _name(self) -> None:
        assert self.conn is not None
        self.local, self.peer = self.name(*self.conn.local), self.name(*self.conn.remote)
        self._quantum = max(1, min(_QUANTUM, self.conn.receive_buffer // 4))

    def acked(self, n: int) -> None:
        conn = self.conn
        if self.full and conn is not None and (
                n == 0 or conn.send_room >= conn.send_buffer // 4 or conn.unacknowledged == 0):
            self.full = False
            self.changed()

    def finished(self) -> None:
        """The peer's FIN."""
        self.eof = True
        self.changed()

    def closed(self, reason: Reason) -> None:
        connecting, self.conn = self.state == CONNECTING, None
        self.error = closed_error(reason)
        if connecting:
            self.state, self.peer = NEW, None
        else:
            self.state, self.eof = OVER, True
        self.changed()

    # -- connecting ------------------------------------------------------------------------------------------
    def connect(self, address: Address, port: int, timeout: float | None) -> None:
        if self.state == CONNECTING:
            raise os_error(errno.EALREADY)
        if not self._told:
            self._told = True
            return
        if self.state != NEW:
            raise os_error(errno.EISCONN)
        self.raise_pending()
        self._open(address, port)
        self.stack.wake()
        self.changed()
        if timeout == 0:
            raise os_error(errno.EINPROGRESS)
        self.wait(lambda: self.state != CONNECTING, timeout)
        self._told = True
        if self.state == NEW:     # it failed
            self.raise_pending()

    def _open(self, address: Address, port: int) -> None:
        source = self.places[0][0] if self.places and not isinstance(self.places[0][0], int) else None
        if address.is_unspecified:          # as Linux: ourselves
            address = self.stack.own(address.version)
        try:
            self.conn = self.stack.engine.tcp_connect(address, port, source=source, source_port=self.port)
        except IipError as error:
            raise open_error(error, f"connect to {address} port {port}") from None
        except ValueError as error:
            raise os_error(errno.EADDRNOTAVAIL, str(error)) from None
        self.state, self.eof, self.sent_fin, self.full = CONNECTING, False, False, False
        self.conn.context = self
        self._name()
        options.apply(self)

    # -- listening -------------------------------------------------------------------------------------------
    def listen(self, backlog: int) -> None:
        if self.state == LISTENING:
            self.backlog = max(backlog, BACKLOG)
            return
        if self.state != NEW:
            raise os_error(errno.EINVAL)
        if not self.places:
            self.bind(self.stack.any_address(self.version), 0)
        self.state, self.backlog = LISTENING, max(backlog, BACKLOG)
        self.stack.engine.tcp_listen(max(self.port, 0))
        self.changed()

    def room(self) -> bool:
        return len(self.queue) < self.backlog

    def accepted(self, conn: Connection) -> None:
        """A connection for this listener is established."""
        child = StreamCore(self.stack, self.family)
        child.users, child.asked = 0, self.asked          # nobody has it yet
        child.options = dict(self.options)
        child.conn, child.state = conn, CONNECTED
        conn.context = child
        child._name()
        options.apply(child)
        self.queue.append(child)
        self.changed()

    def accept(self, timeout: float | None) -> tuple[Core, SockName]:
        if self.state != LISTENING:
            raise os_error(errno.EINVAL)
        self.wait(lambda: self.queue or self.state != LISTENING, timeout)
        if self.state != LISTENING:
            raise os_error(errno.EINVAL)
        child = self.queue.popleft()
        child.users = 1
        self.stack.cores.add(child)
        self.changed()
        assert child.peer is not None
        return child, child.peer

    def _deaf(self) -> None:
        """Listen no more."""
        self.state = NEW
        self.unbind_listener()
        while self.queue:
            child = self.queue.popleft()
            child.users = 1
            if child.conn is not None:
                child.conn.abort()
            child.release()

    def unbind_listener(self) -> None:
        port = self.port
        self.unbind()
        used = any(p == port and core.state == LISTENING for (_a, p), core in self.stack.streams.items())
        if not used and not self.stack.closed:
            self.stack.engine.tcp_listen(max(port, 0), on=False)

    # -- reading ---------------------------------------------------------------------------------------------
    def await_data(self, timeout: float | None) -> None:
        """Until there is something, or no more to come."""
        if self.buffer:
            return
        if self.state in (NEW, LISTENING) and self.error is None:
            raise os_error(errno.ENOTCONN)
        self.wait(lambda: self.buffer or self.eof or self.error is not None or self.state in (NEW, OVER), timeout)
        if not self.buffer:
            self.raise_pending()

    def fill(self, view: memoryview, timeout: float | None) -> int:
        """MSG_WAITALL: until it is full, or no more to come; bytes that came before an error go first."""
        done = 0
        while done < len(view):
            try:
                self.await_data(timeout)
            except OSError:
                if done == 0:
                    raise
                break
            if not self.buffer:
                break
            done += self.take_into(view[done:], False)
        return done

    def take(self, n: int, peek: bool) -> bytes:
        buffer = self.buffer
        if n >= len(buffer):
            data = bytes(buffer)
            if not peek:
                buffer.clear()
        else:
            data = head(buffer, n)
            if not peek:
                del buffer[:n]
        if not peek:
            self._taken(len(data))
        return data

    def take_into(self, view: memoryview, peek: bool) -> int:
        n = head_into(self.buffer, view)
        if not peek:
            del self.buffer[:n]
            self._taken(n)
        return n

    def _taken(self, n: int) -> None:
        """The window opens, in steps that are worth a segment."""
        self._read += n
        if self.conn is not None and not self.conn.closed and (self._read >= self._quantum or not self.buffer):
            n, self._read = self._read, 0
            self.conn.consume(n)
            if n >= self._quantum:
                self.stack.wake()
        if not self.buffer:
            self.changed()

    # -- writing ---------------------------------------------------------------------------------------------
    def send(self, data: Any, timeout: float | None) -> int:
        """Queue all of it if there is no timeout, else at least a byte; how many."""
        whole = memoryview(data).cast("B")
        lend = type(whole.obj) is bytes       # it does not change
        done = self._send(whole, lend) if self.state == CONNECTED else self._cannot(whole, lend, timeout)
        if done == len(whole) or (done and timeout is not None):
            return done
        while True:
            try:
                self.wait(lambda: not self.full or self.state != CONNECTED or self.error is not None, timeout)
            except OSError:
                if done:
                    return done
                raise
            if self.state != CONNECTED or self.error is not None or self.sent_fin:
                if done:
                    return done
                return self._cannot(whole, lend, timeout)
            done += self._send(whole[done:], lend)
            if done == len(whole) or (done and timeout is not None):
                return done

    def _send(self, data: memoryview, lend: bool) -> int:
        if self.sent_fin:
            raise os_error(errno.EPIPE)
        if self.error is not None:
            self.raise_pending()
        assert self.conn is not None
        n = self.conn.send(data, reference=lend and len(data) > _REFERENCE)
        if n < len(data):
            self.full = True
            self.changed()
        if n:
            self.stack.wake()
        return n

    def _cannot(self, data: memoryview, lend: bool, timeout: float | None) -> int:
        """A send in another state than CONNECTED."""
        self.check()
        self.raise_pending()
        if self.state == CONNECTING:
            self.wait(lambda: self.state != CONNECTING, timeout)
            self.raise_pending()
            if self.state == CONNECTED:
                return self._send(data, lend)
        raise os_error(errno.EPIPE)

    # -- ending ----------------------------------------------------------------------------------------------
    def shutdown(self, how: int) -> None:
        if self.state == LISTENING and how != socket.SHUT_WR:
            self._deaf()
            self.changed()
            return
        if self.state not in (CONNECTED, CONNECTING) or (self.conn is None and self.error is None):
            raise os_error(errno.ENOTCONN)
        if how in (socket.SHUT_WR, socket.SHUT_RDWR) and not self.sent_fin:
            self.sent_fin, self.full = True, False
            if self.conn is not None:
                self.conn.shutdown()
                self.stack.wake()
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self.eof = True
        self.changed()

    def finish(self) -> None:
        if self.state == LISTENING:
            self._deaf()
        self.unbind()
        conn, self.conn = self.conn, None
        if conn is None:
            return
        conn.context = None
        if self.buffer or self.state == CONNECTING:        # as Linux: unread data is lost, and the peer is told so
            conn.abort()
        else:
            self.stack.lingering.add(conn)
            conn.close()
        self.state = OVER
        self.buffer.clear()

    def named_peer(self) -> SockName | None:
        return self.peer if self.state in (CONNECTED, OVER) else None

    def linger(self) -> float | None:
        """Seconds that close() waits for the peer, by SO_LINGER."""
        return None if self.conn is None or self.conn.closed else self.conn.linger

    def table(self) -> dict[Place, Any]:
        return self.stack.streams


def listener(stack: Stack, address: Address, port: int) -> StreamCore | None:
    core = find(stack.streams, address, port)
    return core if core is not None and core.state == LISTENING else None
