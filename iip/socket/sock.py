"""The socket object: the methods of the standard library's, on a stack."""
from __future__ import annotations

import errno
import os
import socket as standard
import threading
import time
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iip.aio.reasons import os_error
from iip.socket.base import Core, adopt, by_descriptor
from iip.socket.datagram import IcmpCore, PacketCore, UdpCore
from iip.socket.options import get_option, set_option
from iip.socket.stream import BACKLOG, StreamCore

if TYPE_CHECKING:
    from iip.socket.stack import Stack

_Real = standard.socket           # also while another one is installed in its place
_INTERNET = (standard.AF_INET, standard.AF_INET6)
_ICMP = {standard.AF_INET: standard.IPPROTO_ICMP, standard.AF_INET6: standard.IPPROTO_ICMPV6}
_KNOWN_FLAGS = standard.MSG_PEEK | standard.MSG_DONTWAIT | standard.MSG_WAITALL | standard.MSG_TRUNC | getattr(
    standard, "MSG_NOSIGNAL", 0) | getattr(standard, "MSG_MORE", 0) | getattr(standard, "MSG_CMSG_CLOEXEC", 0)

_default: list[Stack] = []        # the last one is used


def default_stack() -> Stack:
    """The one that `use` or `installed` named."""
    if not _default:
        raise os_error(errno.ENETDOWN, "no stack is in use; call iip.socket.use(iip.socket.Stack(driver, ...)) first")
    return _default[-1]


def _core(stack: Stack, family: int, kind: int, proto: int) -> Core:
    core = _made(stack, family, kind, proto)
    core.asked = proto
    return core


def _made(stack: Stack, family: int, kind: int, proto: int) -> Core:
    if kind == standard.SOCK_STREAM and proto in (0, standard.IPPROTO_TCP):
        return StreamCore(stack, family)
    if kind == standard.SOCK_DGRAM and proto in (0, standard.IPPROTO_UDP):
        return UdpCore(stack, family)
    if kind in (standard.SOCK_RAW, standard.SOCK_DGRAM) and proto == _ICMP[family]:  # type: ignore[index]
        return IcmpCore(stack, family, kind == standard.SOCK_RAW)
    raise os_error(errno.EPROTONOSUPPORT)


def _int(value: int) -> None:
    if not -(1 << 31) <= value < 1 << 31:
        raise OverflowError("signed integer is greater than maximum")


def _bytes_like(data: Any) -> None:
    try:
        memoryview(data).release()
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None


def _writable(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"read-write bytes-like object expected, not {type(buffer).__name__}")
    return view.cast("B")


def _check_ancillary(items: list[Any]) -> None:
    """No ancillary data can be sent."""
    for item in items:
        if not isinstance(item, tuple) or len(item) != 3 or not all(isinstance(number, int) for number in item[:2]):
            raise TypeError("sendmsg(): expected a sequence of tuples (level, type, data)")
        _bytes_like(item[2])
    if items:
        raise os_error(errno.EINVAL, "ancillary data")


class socket(_Real):
    """A socket of a stack: `stack`, or the one in use. Families other than AF_INET and AF_INET6, and descriptors given by
    `fileno`, are the kernel's: then a socket of the standard library is returned."""

    __slots__ = ("_core", "_kind", "_timeout")

    def __new__(cls, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, *,
                stack: Stack | None = None, core: Core | None = None) -> Any:
        if core is None and fileno not in by_descriptor and (fileno is not None or family not in (-1, *_INTERNET)):
            return _Real(family, type, proto, fileno)
        return _Real.__new__(cls)

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None, *,
                 stack: Stack | None = None, core: Core | None = None) -> None:
        # the standard library's __init__ makes a kernel's socket: what else it does is done here
        self._io_refs, self._closed = 0, False
        self._core: Core | None = None
        self._timeout = standard.getdefaulttimeout()
        if core is None and fileno is not None:
            core = adopt(fileno)
        if core is None:
            stack = stack or default_stack()
            stack.check()
            if type != -1 and type & standard.SOCK_NONBLOCK:
                self._timeout = 0.0
            kind = standard.SOCK_STREAM if type == -1 else type & ~(standard.SOCK_NONBLOCK | standard.SOCK_CLOEXEC)
            core = _core(stack, standard.AF_INET if family == -1 else family, kind, 0 if proto == -1 else proto)
            with stack.lock:
                stack.cores.add(core)
        self._core = core
        self._kind = core.family, core.kind, core.asked       # known after close, too

    def _open(self) -> Core:
        core = self._core
        if core is None:
            raise os_error(errno.EBADF)
        return core

    # -- what it is ------------------------------------------------------------------------------------------
    @property
    def stack(self) -> Stack:
        """The stack it belongs to."""
        return self._open().stack

    @property
    def family(self) -> Any:
        return standard.AddressFamily(self._kind[0])

    @property
    def type(self) -> Any:
        return standard.SocketKind(self._kind[1])

    @property
    def proto(self) -> int:
        return self._kind[2]

    @property
    def timeout(self) -> float | None:
        return self._timeout

    def __repr__(self) -> str:
        core = self._core
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if core is None:
            return f"<{name} [closed] fd=-1>"
        ends = [f", {name}={end}" for name, end in (("laddr", core.local or self._nowhere()), ("raddr", core.peer)) if end]
        return f"<{name} fd={core.descriptor}, family={core.family}, type={core.kind}, proto={core.asked}{''.join(ends)}>"

    def _nowhere(self) -> Any:
        core = self._open()
        return core.name(core.stack.any_address(core.version), 0)

    def gettimeout(self) -> float | None:
        return self._timeout

    def settimeout(self, value: float | None) -> None:
        if value is not None:
            value = float(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
            if value > threading.TIMEOUT_MAX:
                raise OverflowError("timeout doesn't fit into C timeval")
        self._timeout = value

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0

    def get_inheritable(self) -> bool:
        """Of the descriptor, which is of no use in another process."""
        return os.get_inheritable(self.fileno())

    def set_inheritable(self, inheritable: bool) -> None:
        os.set_inheritable(self.fileno(), inheritable)

    def fileno(self) -> int:
        """A descriptor to be watched (select, poll, epoll, selectors); it cannot be read from or written to."""
        core = self._core
        if core is None:
            return -1
        with core.stack.lock:
            return -1 if core.gone else core.fileno()

    # -- connecting ------------------------------------------------------------------------------------------
    def bind(self, address: Any) -> None:
        core = self._open()
        with core.lock:
            core.check()
            end = self._end(address)
            core.bind(*end)

    def _end(self, address: Any) -> Any:
        return self._open().end(address)

    def connect(self, address: Any) -> None:
        end = self._end(address)
        core = self._open()
        with core.lock:
            core.check()
            core.connect(end[0], end[1], self._timeout)

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except OSError as error:
            if isinstance(error, standard.gaierror) or error.errno is None:
                raise
            return error.errno
        return 0

    def listen(self, backlog: int = BACKLOG) -> None:
        _int(backlog)
        core = self._open()
        with core.lock:
            core.check()
            core.listen(backlog)

    def accept(self) -> tuple[socket, Any]:
        core = self._open()
        with core.lock:
            core.check()
            child, peer = core.accept(self._timeout)
        made = socket(core=child)
        return made, peer

    def getsockname(self) -> Any:
        core = self._open()
        with core.lock:
            core.check()
            return core.local or self._nowhere()

    def getpeername(self) -> Any:
        core = self._open()
        with core.lock:
            core.check()
            peer = core.named_peer()
            if peer is None:
                raise os_error(errno.ENOTCONN)
            return peer

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        if not 0 <= buflen <= 1024:
            raise OSError("getsockopt buflen out of range")
        core = self._open()
        with core.lock:
            core.check()
            return get_option(core, level, option, buflen)

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None) -> None:
        core = self._open()
        with core.lock:
            core.check()
            set_option(core, level, option, bytes(optlen) if value is None and optlen else value)

    # -- receiving -------------------------------------------------------------------------------------------
    def _wait(self, flags: int) -> float | None:
        if flags & ~_KNOWN_FLAGS:
            raise os_error(errno.EINVAL if flags & standard.MSG_OOB else errno.EOPNOTSUPP)
        return 0.0 if flags & standard.MSG_DONTWAIT else self._timeout

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        return self._recv(bufsize, flags)[0]

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        return self._recv(bufsize, flags)

    def _recv(self, bufsize: int, flags: int) -> tuple[bytes, Any]:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        timeout, peek = self._wait(flags), bool(flags & standard.MSG_PEEK)
        core = self._open()
        with core.lock:
            core.check()
            if isinstance(core, StreamCore):
                if flags & standard.MSG_WAITALL and not peek:
                    whole = bytearray(bufsize)
                    with memoryview(whole) as view:
                        n = core.fill(view, timeout)
                    return bytes(whole[:n]), None
                if bufsize:
                    core.await_data(timeout)
                return core.take(bufsize, peek), None
            assert isinstance(core, PacketCore)
            data, source = core.receive(timeout, peek)
            return data[:bufsize], source

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return self._recv_into(buffer, nbytes, flags)[0]

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        return self._recv_into(buffer, nbytes, flags)

    def _recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        if nbytes < 0:
            raise ValueError("negative buffersize in recv_into")
        with _writable(buffer) as view:
            if nbytes > len(view):
                raise ValueError("buffer too small for requested bytes")
            return self._into(view[:nbytes or None], flags)

    def _into(self, view: memoryview, flags: int) -> tuple[int, Any]:
        timeout, peek = self._wait(flags), bool(flags & standard.MSG_PEEK)
        core = self._open()
        with core.lock:
            core.check()
            if isinstance(core, StreamCore):
                if flags & standard.MSG_WAITALL and not peek:
                    return core.fill(view, timeout), None
                if len(view):
                    core.await_data(timeout)
                return core.take_into(view, peek), None
            assert isinstance(core, PacketCore)
            data, source = core.receive(timeout, peek)
            n = min(len(data), len(view))
            view[:n] = data[:n]
            return n, source

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> tuple[bytes, list[Any], int, Any]:
        """No ancillary data comes."""
        if bufsize < 0 or ancbufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        if self.type == standard.SOCK_STREAM:
            return self.recv(bufsize, flags), [], 0, None
        data, source = self.recvfrom(65536, flags)
        return data[:bufsize], [], standard.MSG_TRUNC if len(data) > bufsize else 0, source

    def recvmsg_into(self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0) -> tuple[int, list[Any], int, Any]:
        views = [_writable(buffer) for buffer in buffers]
        data, more, told, source = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        done = 0
        for view in views:
            part = data[done:done + len(view)]
            view[:len(part)] = part
            done += len(part)
        return len(data), more, told, source

    # -- sending ---------------------------------------------------------------------------------------------
    def send(self, data: Any, flags: int = 0) -> int:
        return self._send(data, flags, None)

    def _send(self, data: Any, flags: int, end: Any) -> int:
        timeout = self._wait(flags)
        core = self._open()
        with core.lock:
            core.check()
            if isinstance(core, StreamCore):
                return core.send(data, timeout)
            assert isinstance(core, PacketCore)
            return core.send(bytes(memoryview(data)), end, timeout)

    def sendall(self, data: Any, flags: int = 0) -> None:
        timeout = self._wait(flags)
        if self.type != standard.SOCK_STREAM:
            self._send(data, flags, None)
            return
        end = None if timeout is None else time.monotonic() + timeout
        core = self._open()
        with memoryview(data) as whole, whole.cast("B") as view, core.lock:
            core.check()
            assert isinstance(core, StreamCore)
            done = 0
            while done < len(view):
                if end is not None and timeout:
                    timeout = end - time.monotonic()
                    if timeout <= 0:
                        raise TimeoutError("timed out")
                done += core.send(view[done:], timeout)

    def sendto(self, data: Any, *arguments: Any) -> int:
        if not 1 <= len(arguments) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(arguments) + 1} given)")
        flags, address = (0, arguments[0]) if len(arguments) == 1 else arguments
        if not isinstance(flags, int):
            raise TypeError(f"'{type(flags).__name__}' object cannot be interpreted as an integer")
        _bytes_like(data)
        if self.type == standard.SOCK_STREAM:
            if self._open().peer is not None:
                return self._send(data, flags, None)
            raise os_error(errno.EPIPE)
        return self._send(data, flags, self._end(address))

    def sendmsg(self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None) -> int:
        _check_ancillary(list(ancdata))
        data = b"".join(bytes(memoryview(buffer)) for buffer in buffers)
        return self._send(data, flags, None if address is None else self._end(address))

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """`sendfile` reads the file; its bytes are lent to the stack until they are acknowledged."""
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        raise standard._GiveupOnSendfile("not the kernel's socket")  # type: ignore[attr-defined]

    # -- ending ----------------------------------------------------------------------------------------------
    def shutdown(self, how: int) -> None:
        _int(how)
        if how not in (standard.SHUT_RD, standard.SHUT_WR, standard.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        core = self._open()
        with core.lock:
            core.check()
            core.shutdown(how)

    def _real_close(self, _ss: Any = None) -> None:
        core, self._core = self._core, None
        if core is None:
            return
        with core.stack.lock:
            seconds = core.linger() if isinstance(core, StreamCore) and core.users == 1 else None
            conn = core.conn
            core.release()
        if seconds and self._timeout != 0 and conn is not None and not core.stack.worker.ours():
            end = time.monotonic() + seconds
            while conn in core.stack.lingering and time.monotonic() < end:
                time.sleep(0.001)

    def detach(self) -> int:
        """Leave the socket to who makes one of the descriptor, by ``socket(fileno=)``, or closes that by `iip.socket.close`."""
        core = self._core
        if core is None:
            return -1
        with core.lock:
            fd = core.fileno()
        self._core, self._closed = None, True
        return fd

    def dup(self) -> socket:
        """Another object for the same socket, which is closed with the last of them."""
        core = self._open()
        with core.lock:
            core.check()
            core.users += 1
        made = socket(core=core)
        made.settimeout(self._timeout)
        return made

    def __del__(self) -> None:
        core, self._core = getattr(self, "_core", None), None
        if core is not None:
            self._core = core
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            finally:
                self._core = None
                core.stack.abandoned.append(core)      # the lock may be held: the stack's thread does the rest
                core.stack.worker.wake()
