"""What sockets of all types are behind: waiting, descriptors, options."""
from __future__ import annotations

import errno
import socket
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iip.aio.names import ANY_PORT, Address, SockName, literal, sockname
from iip.aio.reasons import os_error
from iip.socket.gate import Gate
from iip.socket.mirror import Mirror

if TYPE_CHECKING:
    from iip.connection import Connection
    from iip.socket.stack import Stack

Place = tuple[Address | int, int]     # an address, or the IP version of which it is any; port or ANY_PORT


by_descriptor: weakref.WeakValueDictionary[int | None, Core] = weakref.WeakValueDictionary()


class Core:
    """What several socket objects (`dup`) may share, as descriptors share an open file. Methods are called with the stack's lock
    held; those that may wait release it meanwhile."""

    kind = proto = 0              # of the socket,
    asked = 0                     # and the protocol number that it was made with

    def __init__(self, stack: Stack, family: int) -> None:
        self.stack, self.family, self.lock = stack, family, stack.lock
        self.users = 1                # socket objects
        self.gone = False             # the last of them was closed
        self.error: OSError | None = None     # pending, for SO_ERROR and the next call
        self.options: dict[tuple[int, int], Any] = {}      # what was set
        self.places: list[Place] = []         # where it is bound,
        self.local: SockName | None = None    # by this name
        self.peer: SockName | None = None     # the one it is connected with
        self.conn: Connection | None = None   # of TCP
        self.fatal: OSError | None = None     # the stack is closed: every call raises it
        self._gate = Gate(stack.lock)
        self._mirror: Mirror | None = None

    # -- waiting -------------------------------------------------------------------------------------------
    def readable(self) -> bool:
        raise NotImplementedError

    def writable(self) -> bool:
        raise NotImplementedError

    def hung(self) -> bool:
        """Both directions are over."""
        return False

    def changed(self) -> None:
        """Something happened that waiting threads and selectors may want to know."""
        self._gate.open()
        if self._mirror is not None:
            self._mirror.show(self.readable(), self.writable(), self.hung())

    def wait(self, ready: Callable[[], object], timeout: float | None) -> None:
        """Until `ready()` holds. timeout: seconds, None: for ever, 0: not at all. Raises as the kernel would."""
        end = None if timeout is None else time.monotonic() + timeout
        while not ready():
            self.check()
            if timeout == 0:
                raise os_error(errno.EAGAIN)
            if self.stack.worker.ours():
                raise os_error(errno.EDEADLK, "the thread that runs the stack cannot wait for it")
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            self._gate.wait(left)
        self.check()

    def check(self) -> None:
        """Raise when there is nothing to be had from the socket any more."""
        if self.gone:
            raise os_error(errno.EBADF)
        if self.fatal is not None:
            raise OSError(*self.fatal.args)

    def raise_pending(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            self.changed()
            raise error

    def fileno(self) -> int:
        if self._mirror is None:
            self._mirror = Mirror()
            by_descriptor[self._mirror.fileno()] = self
            self.changed()
        return self._mirror.fileno()

    @property
    def descriptor(self) -> int:
        """-1 if nobody has asked for one."""
        return self._mirror.fileno() if self._mirror is not None else -1

    # -- the end -------------------------------------------------------------------------------------------
    def release(self) -> None:
        """A socket object was closed."""
        if self.gone:             # by way of its descriptor
            raise os_error(errno.EBADF)
        self.users -= 1
        if self.users:
            return
        self.gone = True
        self.stack.cores.discard(self)
        if self.fatal is None:
            self.finish()
            self.stack.wake()
        self.changed()            # who waits in another thread gets EBADF
        if self._mirror is not None:
            by_descriptor.pop(self._mirror.fileno(), None)
            self._mirror.close()
            self._mirror = None

    def finish(self) -> None:
        """Nobody has the socket any more."""
        raise NotImplementedError

    def fail(self, error: OSError) -> None:
        """The stack was closed."""
        if self.fatal is None:
            self.fatal = error
            self.changed()

    # -- names ---------------------------------------------------------------------------------------------
    @property
    def version(self) -> int:
        return 4 if self.family == socket.AF_INET else 6

    def name(self, address: Address, port: int) -> SockName:
        """As this socket shows it: IPv4 mapped if it is one of IPv6."""
        if self.family == socket.AF_INET6 and address.version == 4:
            return f"::ffff:{address}", port, 0, 0
        return sockname(address, port)

    def end(self, address: Any) -> tuple[Address, int]:
        """What a socket address given by the application means; names are resolved, without the lock."""
        host, port = _parts(self.family, address)
        if host == "":
            host = "0.0.0.0" if self.family == socket.AF_INET else "::"
        elif host == "<broadcast>":
            host = "255.255.255.255"
        found = literal(host)
        if found is None:
            found = literal(self.stack.getaddrinfo(host, None, self.family, self.kind)[0][4][0])
            assert found is not None
        mapped = getattr(found, "ipv4_mapped", None)
        if mapped is not None and not self.only_v6():
            found = mapped
        elif found.version != self.version:
            if self.family == socket.AF_INET6:
                raise os_error(errno.ENETUNREACH, f"{found} for an IPv6 socket")
            raise socket.gaierror(socket.EAI_ADDRFAMILY if hasattr(socket, "EAI_ADDRFAMILY") else socket.EAI_NONAME,
                                  "Address family for hostname not supported")
        return found, port

    def only_v6(self) -> bool:
        return bool(self.options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)))

    def bind(self, address: Address, port: int) -> None:
        """Take a port; 0: any that is free."""
        if self.places:
            raise os_error(errno.EINVAL, "the socket is bound already")
        if not address.is_unspecified:
            self.stack.check_own(address)
        table = self.table()
        if port == 0:
            port = self.stack.free_port(table)
        if address.is_unspecified:
            both = self.family == socket.AF_INET6 and address.version == 6 and not self.only_v6()
            places: list[Place] = [(version, port) for version in ((6, 4) if both else (address.version,))]
        else:
            places = [(address, port)]
        for place in places:
            if _taken(table, place):
                raise os_error(errno.EADDRINUSE, f"port {port}")
        for place in places:
            table[place] = self
        self.places = places
        self.local = self.name(address, port)

    def unbind(self) -> None:
        table = self.table()
        for place in self.places:
            table.pop(place, None)
        self.places = []

    def table(self) -> dict[Place, Any]:
        """Who has which port of this protocol."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        return self.places[0][1] if self.places else 0

    def named_peer(self) -> SockName | None:
        """What getpeername says."""
        return self.peer

    # -- calls that not every type has -----------------------------------------------------------------------
    def listen(self, backlog: int) -> None:
        raise os_error(errno.EOPNOTSUPP)

    def accept(self, timeout: float | None) -> tuple[Core, SockName]:
        raise os_error(errno.EOPNOTSUPP)

    def connect(self, address: Address, port: int, timeout: float | None) -> None:
        raise NotImplementedError

    def shutdown(self, how: int) -> None:
        raise NotImplementedError


def adopt(fd: int) -> Core:
    """The socket of a descriptor, for an object in place of one that was detached from it."""
    core = by_descriptor.get(fd)
    if core is None:
        raise os_error(errno.EBADF)
    return core


def _taken(table: dict[Place, Any], place: Place) -> bool:
    """Would the place be somebody else's, too?"""
    where, port = place
    if place in table:
        return True
    if isinstance(where, int):
        return any(p == port and not isinstance(a, int) and a.version == where for a, p in table)
    return (where.version, port) in table


def find(table: dict[Place, Any], address: Address, port: int) -> Any:
    """Whose a packet is that came to (address, port)."""
    get, version = table.get, address.version
    return (get((address, port)) or get((version, port)) or get((address, ANY_PORT)) or get((version, ANY_PORT)))


def _parts(family: int, address: Any) -> tuple[str, int]:
    name = "AF_INET" if family == socket.AF_INET else "AF_INET6"
    if not isinstance(address, tuple):
        raise TypeError(f"{name} address must be tuple, not {type(address).__name__}")
    if not (len(address) == 2 or (family == socket.AF_INET6 and 2 <= len(address) <= 4)):
        raise TypeError(f"{name} address must be a " + ("pair (host, port)" if family == socket.AF_INET else
                                                        "tuple (host, port[, flowinfo[, scopeid]])"))
    host, port = address[:2]
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    if not isinstance(port, int):
        raise TypeError(f"'{type(port).__name__}' object cannot be interpreted as an integer")
    if not 0 <= port <= 65535 and port != ANY_PORT:
        raise OverflowError("port must be 0-65535.")
    if len(address) > 2 and not 0 <= address[2] <= 0xFFFFF:
        raise OverflowError("flowinfo must be 0-1048575.")
    return host, port
