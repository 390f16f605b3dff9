"""A stack for blocking programs: an engine that a thread runs."""
from __future__ import annotations

import atexit
import contextlib
import errno
import random
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, literal
from iip.aio.reasons import os_error
from iip.aio.resolver import AddrInfo
from iip.config import Config
from iip.connection import Connection
from iip.drivers.base import Driver
from iip.drivers.tunnel import Tunnel as TunnelDriver
from iip.facade import Engine
from iip.memory.pool import PacketPool
from iip.socket.base import Core, Place
from iip.socket.events import Events
from iip.socket.handler import Notified, Recorder
from iip.socket.resolver import Resolver
from iip.socket.worker import Worker

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from iip.socket.datagram import IcmpCore, PacketCore, UdpCore
    from iip.socket.sock import socket as Socket
    from iip.socket.stream import StreamCore

_POLL = 1_000_000                 # ns between two looks at a driver that can neither be watched nor tells
_BATCH = 1 << 18                  # bytes that one call of a tunnel's `output` brings

_open: weakref.WeakSet[Stack] = weakref.WeakSet()


class Stack:
    """A TCP/IP stack whose sockets any thread may use. The engine runs, without the GIL, in the thread whose call gives it
    something to do, and for packets and deadlines in a thread of the stack's, which sleeps while nothing happens.

    driver: where packets come from and go to; config: an `iip.Config`, or give its settings by name; nameservers: addresses of DNS
    servers to ask through the stack (needs the extra ``iip[dns]``); pool, seed: as for `iip.Engine`; worker: a `Worker` to share
    the thread of other stacks, which those have to that a memory link joins.

    `socket()` and `create_connection` make sockets; or name the stack to the module's functions once, by `iip.socket.use(stack)` or
    ``with iip.socket.installed(stack):``. Close it, or use it in ``with``.
    """

    inline = True                 # the thread of a call may run the engine

    def __init__(self, driver: Driver, config: Config | None = None, *, nameservers: Sequence[str] = (), hosts: str = "/etc/hosts",
                 pool: PacketPool | None = None, seed: int | None = None, worker: Worker | None = None, **settings: Any) -> None:
        self.closed = True        # until it is set up
        if config is None:
            config = Config(**settings)
        elif settings:
            config = config.replace(**settings)
        self.worker = worker or Worker()
        self.lock = self.worker.lock
        self.cores: set[Core] = set()                     # of the sockets that are open
        self.streams: dict[Place, StreamCore] = {}        # by where they are bound
        self.datagrams: dict[Place, UdpCore] = {}
        self.pings: dict[Place, IcmpCore] = {}
        self.blocked: set[PacketCore] = set()             # wait for room in the engine
        self.lingering: set[Connection] = set()           # closed by the application, not yet over
        self.abandoned: list[Core] = []                   # collected without being closed
        self.driver = driver
        self._recorder = Recorder(Events(self))
        self.engine = Engine(config, self._recorder, driver, pool, seed)
        self.random = random.SystemRandom() if seed is None else random.Random(seed)
        self.resolver = Resolver(self, nameservers, hosts)
        self.error: BaseException | None = None           # what ended the stack
        self._told = driver.fileno() is not None or driver.notify(Notified(self.worker))
        self.closed = False
        _open.add(self)
        self.worker.add(self)

    # -- running ---------------------------------------------------------------------------------------------
    def wake(self) -> None:
        """The engine was told something: it runs. Called with the lock."""
        self.worker.run()

    def fileno(self) -> int | None:
        return None if self.closed else self.driver.fileno()

    def run(self, now: int) -> int | None:
        """One pass; the worker's. When to call again."""
        if self.closed:
            return None
        while self.abandoned:
            with contextlib.suppress(OSError):
                self.abandoned.pop().release()
        try:
            deadline = self.engine.run(now)
            self._recorder.dispatch()
        except Exception as error:
            self.error = error
            self._shut()
            return None
        if self.blocked:
            blocked, self.blocked = self.blocked, set()
            for core in blocked:
                core.full = False
                core.changed()
        return deadline if self._told else min(deadline or now + _POLL, now + _POLL)

    def after(self) -> None:
        """After a pass, without the lock; the worker's."""

    # -- ending ----------------------------------------------------------------------------------------------
    def check(self) -> None:
        if self.closed:
            raise OSError(errno.ENETDOWN, "the stack is closed" + (f": {self.error}" if self.error else ""))

    def gone(self, conn: Connection) -> None:
        self.lingering.discard(conn)

    def close(self, linger: float = 2.0) -> None:
        """Close engine and driver. Connections that were closed before may send what they have and end in order, for `linger`
        seconds at most; what is still open is aborted, and calls that wait for it raise. May be called twice, from any thread."""
        end = time.monotonic() + linger
        while self.lingering and not self.closed and not self.worker.ours() and time.monotonic() < end:
            time.sleep(0.001)
        with self.lock:
            if not self.closed:
                with contextlib.suppress(Exception):
                    self.engine.abort_all()
                    self._last_pass()
                self._shut()
        self.worker.join()

    def _last_pass(self) -> None:
        """The RSTs leave."""
        self.engine.run(time.monotonic_ns())
        self._recorder.dispatch()

    def _shut(self) -> None:
        self.closed = True
        _open.discard(self)
        self.driver.notify(None)
        text = f"the stack was closed{f': {self.error}' if self.error else ''}"
        for core in list(self.cores):
            core.fail(OSError(errno.ENETDOWN, text))
        self.lingering.clear()
        self.worker.remove(self)
        self.engine.close()
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<iip.socket.{type(self).__name__} {' '.join(self.engine.addresses)}{' closed' if self.closed else ''}>"

    # -- places ----------------------------------------------------------------------------------------------
    def check_own(self, address: Address) -> None:
        config = self.engine.config
        ours = config.accept_any or address.is_link_local or address.is_multicast or str(address) == "255.255.255.255"
        if not ours and address not in [interface.ip for interface in config.interfaces]:
            raise os_error(errno.EADDRNOTAVAIL, f"{address} is not among the stack's addresses")

    def own(self, version: int) -> Address:
        """An address of ours."""
        for interface in self.engine.config.interfaces:
            if interface.version == version:
                return interface.ip
        raise os_error(errno.ENETUNREACH, f"the stack has no IPv{version} address")

    @staticmethod
    def any_address(version: int) -> Address:
        address = literal("0.0.0.0" if version == 4 else "::")
        assert address is not None
        return address

    def free_port(self, table: dict[Place, Any]) -> int:
        low, high = self.engine.config.ports
        used = {port for _address, port in table}
        for _ in range(1000):
            port = self.random.randint(low, high)
            if port not in used:
                return port
        raise os_error(errno.EADDRINUSE, "no port is free; widen Config.ports")

    # -- what programs call ----------------------------------------------------------------------------------
    def getaddrinfo(self, host: str | bytes | None, port: str | bytes | int | None, family: int = 0, type: int = 0, proto: int = 0,
                    flags: int = 0) -> list[AddrInfo]:
        """As `socket.getaddrinfo`: literals, the hosts file, and DNS if there are `nameservers`."""
        return self.resolver.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)

    def socket(self, family: int = -1, type: int = -1, proto: int = -1) -> Socket:
        """A socket of this stack."""
        from iip.socket.sock import socket as make

        return make(family, type, proto, stack=self)

    def create_connection(self, address: tuple[str, int], *arguments: Any, **settings: Any) -> Socket:
        """As `socket.create_connection`."""
        from iip.socket.functions import create_connection

        return create_connection(address, *arguments, stack=self, **settings)

    def create_server(self, address: tuple[str, int], **settings: Any) -> Socket:
        """As `socket.create_server`."""
        from iip.socket.functions import create_server

        return create_server(address, stack=self, **settings)


class Tunnel(Stack):
    """A stack at the end of a tunnel: IP packets go in by `feed`, and come out in batches, to `output(packets)`, which the stack's
    thread calls. It may take its time, but it must not wait for sockets of this stack.

    mtu: bytes of a packet; capacity: packets that may wait in each direction; addresses, routes and the rest as for `Stack`.
    """

    inline = False                # `output` is the thread's to call

    def __init__(self, *, output: Callable[[list[bytes]], object], mtu: int = 1500, capacity: int = 1024, **settings: Any) -> None:
        self.tunnel = TunnelDriver(mtu, capacity=capacity, scatter_gather=True)
        self._output = output
        self._batch = max(16, _BATCH // mtu)
        super().__init__(self.tunnel, mtu=mtu, **{"gso": True, "gro": True, **settings})

    def feed(self, packet: Buffer) -> bool:
        """A packet from the other side (bytes-like; the payload of large `bytes` is not copied). False: it was not taken, because a
        queue or the pool is full or its length is no packet's; that is a loss as on any network."""
        with self.lock:
            return self.tunnel.feed(packet)

    def feed_many(self, packets: Iterable[Buffer]) -> int:
        """`feed` each; how many were taken."""
        with self.lock:
            return self.tunnel.feed_many(packets)

    def _batches(self) -> Iterator[list[bytes]]:
        while True:
            with self.lock:
                packets = self.tunnel.drain(self._batch)
            if not packets:
                return
            yield packets
            self.worker.wake()    # the engine may have waited for room

    def after(self) -> None:
        try:
            for packets in self._batches():
                self._output(packets)
        except Exception as error:
            with self.lock:
                if not self.closed:
                    self.error = error
                    self._shut()

    def _last_pass(self) -> None:
        super()._last_pass()
        packets = self.tunnel.drain()
        if packets:
            self._output(packets)


@atexit.register
def _close_all() -> None:
    """Peers need not wait for a program that ends."""
    for stack in list(_open):
        stack.close(linger=0.5)
