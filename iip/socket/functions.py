"""The functions of the module."""
from __future__ import annotations

import contextlib
import errno
import socket as standard
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from iip.aio.names import literal
from iip.aio.resolver import AddrInfo
from iip.socket.base import adopt, by_descriptor
from iip.socket.sock import _default, default_stack, socket

if TYPE_CHECKING:
    from iip.socket.stack import Stack

_close, _fromfd = standard.close, standard.fromfd
_GLOBAL_DEFAULT_TIMEOUT = standard._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]


def use(stack: Stack | None) -> None:
    """From now on sockets are made on this stack; None: on none."""
    _default[:] = [] if stack is None else [stack]


def create_connection(address: tuple[str | None, int], timeout: Any = _GLOBAL_DEFAULT_TIMEOUT,
                      source_address: tuple[str, int] | None = None, *, all_errors: bool = False,
                      stack: Stack | None = None) -> socket:
    """As `socket.create_connection`."""
    stack = stack or default_stack()
    errors: list[Exception] = []
    for family, kind, proto, _name, where in stack.getaddrinfo(*address, 0, standard.SOCK_STREAM):
        sock = None
        try:
            sock = socket(family, kind, proto, stack=stack)
            if timeout is not _GLOBAL_DEFAULT_TIMEOUT:
                sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(where)
            return sock
        except OSError as error:
            errors.append(error)
            if sock is not None:
                sock.close()
    try:
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)  # type: ignore[name-defined, unused-ignore]  # noqa: F821
        raise errors[0]
    finally:
        errors.clear()            # no cycle of traceback and frame


def create_server(address: tuple[str, int], *, family: int = standard.AF_INET, backlog: int | None = None, reuse_port: bool = False,
                  dualstack_ipv6: bool = False, stack: Stack | None = None) -> socket:
    """As `socket.create_server`."""
    if dualstack_ipv6 and family != standard.AF_INET6:
        raise ValueError("dualstack_ipv6 requires AF_INET6 family")
    sock = socket(family, standard.SOCK_STREAM, stack=stack)
    try:
        sock.setsockopt(standard.SOL_SOCKET, standard.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(standard.SOL_SOCKET, standard.SO_REUSEPORT, 1)
        if family == standard.AF_INET6:
            sock.setsockopt(standard.IPPROTO_IPV6, standard.IPV6_V6ONLY, int(not dualstack_ipv6))
        try:
            sock.bind(address)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (while attempting to bind on address {address!r})") from None
        sock.listen() if backlog is None else sock.listen(backlog)
        return sock
    except BaseException:
        sock.close()
        raise


def has_dualstack_ipv6() -> bool:
    return True


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[AddrInfo]:
    """As `socket.getaddrinfo`, by the stack in use."""
    return default_stack().getaddrinfo(host, port, family, type, proto, flags)


def gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
    if hostname == "":
        hostname = "0.0.0.0"
    found = default_stack().getaddrinfo(hostname, 0, standard.AF_INET, standard.SOCK_STREAM)
    return hostname, [], list(dict.fromkeys(str(info[4][0]) for info in found))


def gethostbyname(hostname: str) -> str:
    return gethostbyname_ex(hostname)[2][0]


def gethostbyaddr(host: str) -> tuple[str, list[str], list[str]]:
    """By the hosts file."""
    stack = default_stack()
    address = str(stack.getaddrinfo(host, 0)[0][4][0])
    return stack.resolver.gethostbyaddr(address)


def getfqdn(name: str = "") -> str:
    if name in ("", "0.0.0.0", "::"):
        return standard.gethostname()
    try:
        host, aliases, _addresses = gethostbyaddr(name)
    except OSError:
        return name
    return next((alias for alias in [host, *aliases] if "." in alias), host)


def getnameinfo(sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
    """As `socket.getnameinfo`, by the hosts file and the list of services."""
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    if len(sockaddr) > 2 and not 0 <= sockaddr[2] <= 0xFFFFF:
        raise OverflowError("getnameinfo(): flowinfo must be 0-1048575.")
    if len(sockaddr) < 2 or literal(sockaddr[0]) is None:
        raise standard.gaierror(standard.EAI_NONAME, "Name or service not known")
    host, service = sockaddr[0], str(sockaddr[1])
    if not flags & standard.NI_NUMERICHOST:
        try:
            host = gethostbyaddr(host)[0]
        except OSError:
            if flags & standard.NI_NAMEREQD:
                raise standard.gaierror(standard.EAI_NONAME, "Name or service not known") from None
    if not flags & standard.NI_NUMERICSERV:
        with contextlib.suppress(OSError):
            service = standard.getservbyport(sockaddr[1], "udp" if flags & standard.NI_DGRAM else "tcp")
    return host, service


def fromfd(fd: int, family: int, type: int, proto: int = 0) -> Any:
    """As `socket.fromfd`: another object for the socket of a descriptor."""
    if fd not in by_descriptor:
        return _fromfd(fd, family, type, proto)
    core = adopt(fd)
    with core.lock:
        core.users += 1
    return socket(core=core)


def close(fd: int) -> None:
    """As `socket.close`: the end of a socket, whoever has it."""
    if fd in by_descriptor:
        core = adopt(fd)
        with core.lock:
            core.users = 1
            core.release()
    else:
        _close(fd)


def if_nameindex() -> list[tuple[int, str]]:
    """A stack has one interface."""
    return [(1, "iip0")]


def if_nametoindex(name: str) -> int:
    if name != "iip0":
        raise OSError(errno.ENODEV, f"no interface {name!r}")
    return 1


def if_indextoname(index: int) -> str:
    if index != 1:
        raise OSError(errno.ENXIO, f"no interface {index}")
    return "iip0"


_SWAPPED = (
    "socket", "close", "fromfd", "create_connection", "create_server", "has_dualstack_ipv6", "getaddrinfo", "gethostbyname",
    "gethostbyname_ex", "gethostbyaddr", "getfqdn", "getnameinfo")


@contextlib.contextmanager
def installed(stack: Stack) -> Iterator[Stack]:
    """Within, the standard library's module has these sockets and functions, on `stack`: libraries that know nothing of iip use
    it, in all threads of the process, unless they took names out of the module before. `ssl.SSLContext.wrap_socket` takes them,
    too."""
    from iip.socket import tls

    before = {name: getattr(standard, name) for name in _SWAPPED}
    _default.append(stack)
    try:
        for name in _SWAPPED:
            setattr(standard, name, globals()[name])
        with tls.installed():
            yield stack
    finally:
        for name, value in before.items():
            setattr(standard, name, value)
        _default.remove(stack)
