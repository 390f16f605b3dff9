"""TLS over a stack's sockets: the ssl module's own machinery on buffers, since its sockets need a kernel's."""
from __future__ import annotations

import contextlib
import errno
import socket as standard
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

from iip.aio.reasons import os_error
from iip.socket.sock import socket

_CHUNK = 1 << 16
_wrap_socket = ssl.SSLContext.wrap_socket


class TlsSocket(socket):
    """What `SSLContext.wrap_socket` makes of a stack's socket: the methods of `ssl.SSLSocket`. It takes the socket over."""

    __slots__ = ("_incoming", "_machine", "_outgoing", "_rest", "_sending", "_tls", "suppress_ragged_eofs")

    def __init__(self, sock: socket, context: ssl.SSLContext, server_side: bool, do_handshake_on_connect: bool,
                 suppress_ragged_eofs: bool, server_hostname: str | None, session: Any) -> None:
        super().__init__(core=sock._open())
        self._timeout = sock.gettimeout()
        sock._core = None         # as SSLSocket does with the descriptor
        sock.close()
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._rest = b""          # of what is to be sent
        self._machine = threading.Lock()      # one thread at a time,
        self._sending = threading.Lock()      # and its bytes in order
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname, session)
        if do_handshake_on_connect and self._core is not None and self._core.peer is not None:
            try:
                self.do_handshake()
            except BaseException:
                self.close()
                raise

    def __new__(cls, sock: socket, *arguments: Any) -> Any:
        return socket.__new__(cls, core=sock._open())

    # -- the machine -----------------------------------------------------------------------------------------
    def _run(self, operation: Any, *arguments: Any) -> Any:
        """Call until it needs nothing more from the network, for the socket's timeout at most."""
        end = None if not self._timeout else time.monotonic() + self._timeout
        while True:
            try:
                with self._machine:
                    result = operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush(end)
                self._fill(end)
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):        # the alert
                    self._flush(end)
                raise
            self._flush(end)
            return result

    def _left(self, end: float | None) -> None:
        if end is not None and end <= time.monotonic():
            raise TimeoutError("The operation timed out")

    def _flush(self, end: float | None) -> None:
        """Send what the machine has made; without blocking, as much as goes."""
        if not self._rest and not self._outgoing.pending:
            return
        with self._sending:
            with self._machine:
                self._rest += self._outgoing.read()
            while self._rest:
                self._left(end)
                try:
                    self._rest = self._rest[super().send(self._rest):]
                except BlockingIOError:
                    return

    def _fill(self, end: float | None) -> None:
        self._left(end)
        try:
            data = super().recv(_CHUNK)
        except BlockingIOError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)") from None
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def do_handshake(self, block: bool = False) -> None:
        before = self._timeout
        if block and before == 0:
            self._timeout = None
        try:
            self._run(self._tls.do_handshake)
        finally:
            self._timeout = before

    def read(self, n: int = 1024, buffer: Any = None) -> Any:
        try:
            return self._run(self._tls.read, n) if buffer is None else self._run(self._tls.read, n, buffer)
        except ssl.SSLZeroReturnError:
            return b"" if buffer is None else 0
        except ssl.SSLEOFError:
            if self.suppress_ragged_eofs:
                return b"" if buffer is None else 0
            raise

    def write(self, data: Any) -> int:
        self._flush(None)
        if self._rest:
            raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
        return self._run(self._tls.write, data)  # type: ignore[no-any-return]

    # -- the socket's methods --------------------------------------------------------------------------------
    def connect(self, address: Any) -> None:
        super().connect(address)
        self.do_handshake()

    def recv(self, bufsize: int = 1024, flags: int = 0) -> bytes:
        _no_flags(flags)
        return self.read(bufsize) if bufsize else b""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        _no_flags(flags)
        n = nbytes or memoryview(buffer).nbytes
        return self.read(n, buffer) if n else 0

    def send(self, data: Any, flags: int = 0) -> int:
        _no_flags(flags)
        return self.write(data) if memoryview(data).nbytes else 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        _no_flags(flags)
        with memoryview(data) as whole, whole.cast("B") as view:
            done = 0
            while done < len(view):
                done += self.write(view[done:])

    def accept(self) -> tuple[socket, Any]:
        plain, peer = super().accept()
        return wrap_socket(self.context, plain, True, suppress_ragged_eofs=self.suppress_ragged_eofs), peer

    def recvfrom(self, *_arguments: Any) -> Any:
        raise ValueError("recvfrom not allowed on instances of TlsSocket")

    recvfrom_into = recvmsg = recvmsg_into = sendto = sendmsg = recvfrom  # type: ignore[assignment]

    def unwrap(self) -> socket:
        """End TLS; the plain socket goes on."""
        self._run(self._tls.unwrap)
        plain = socket(core=self._open())
        plain.settimeout(self._timeout)
        self._core = None
        return plain

    def pending(self) -> int:
        return self._tls.pending()

    def dup(self) -> Any:
        raise NotImplementedError(f"Can't dup() {self.__class__.__name__} instances")

    # -- what is known ---------------------------------------------------------------------------------------
    @property
    def context(self) -> ssl.SSLContext:
        return self._tls.context

    @property
    def session(self) -> Any:
        return self._tls.session

    @property
    def server_hostname(self) -> str | None:
        return self._tls.server_hostname

    @property
    def server_side(self) -> bool:
        return self._tls.server_side

    @property
    def session_reused(self) -> bool | None:
        return self._tls.session_reused

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self._tls.getpeercert(binary_form)

    def cipher(self) -> Any:
        return self._tls.cipher()

    def version(self) -> str | None:
        return self._tls.version()

    def selected_alpn_protocol(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        return self._tls.get_channel_binding(cb_type)


def _no_flags(flags: int) -> None:
    if flags:
        raise ValueError("non-zero flags not allowed in calls on instances of TlsSocket")


def wrap_socket(context: ssl.SSLContext, sock: Any, server_side: bool = False, do_handshake_on_connect: bool = True,
                suppress_ragged_eofs: bool = True, server_hostname: str | None = None, session: Any = None) -> Any:
    """`SSLContext.wrap_socket` for a stack's socket, or another."""
    if not isinstance(sock, socket):
        return _wrap_socket(context, sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session)
    if sock.type != standard.SOCK_STREAM:
        raise NotImplementedError("only stream sockets are supported")
    if isinstance(sock, TlsSocket):
        raise os_error(errno.EOPNOTSUPP, "TLS in TLS")
    return TlsSocket(sock, context, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, session)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Within, `SSLContext.wrap_socket` takes sockets of stacks."""
    before = ssl.SSLContext.wrap_socket
    ssl.SSLContext.wrap_socket = wrap_socket  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ssl.SSLContext.wrap_socket = before  # type: ignore[method-assign]
