"""Engines and applications in threads, under any model of assigning them to cores."""
from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from iip.config import Config
from iip.drivers.base import Driver
from iip.errors import ConfigError, IipError
from iip.facade import Engine
from iip.memory.pool import PacketPool
from iip.runtime.channel import Link
from iip.runtime.relay import Relay
from iip.runtime.remote import Remote
from iip.runtime.worker import ApplicationLoop, NetworkLoop, name_thread

if TYPE_CHECKING:
    from typing_extensions import Self

MODELS = ("unified", "merge", "split")
_LEAVE = 2.0                      # seconds that a thread may take to end


class Member:
    """An engine of a `Threads`, with its application.

    engine: the engine, which belongs to its thread once that runs; application: what the handler's calls go to: the same
    engine, or a `Remote` in the models that have two threads. Both may be used before `start`, and from functions given to
    `call`.
    """

    def __init__(self, engine: Engine, application: Any, relay: Relay | None, cores: tuple[int | None, int | None],
                 name: str) -> None:
        self.engine = engine
        self.application = application
        self.relay = relay
        self.cores = cores
        self.name = name
        self.network_loop: NetworkLoop | None = None
        self.application_loop: ApplicationLoop | None = None
        self.error: BaseException | None = None
        self.threads: list[threading.Thread] = []
        self.closed = False
        self.left = False             # a thread does not end: its packets are lost with it

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Have the application's thread call a function between two rounds."""
        loop = self.application_loop or self.network_loop
        if loop is None:
            raise IipError("call: the threads do not run; start() first, or call the function yourself")
        loop.call(function, *arguments)

    def stats(self) -> dict[str, int]:
        """Rounds and sleeps of the threads, and what passed between them."""
        found = dict(self.relay.stats()) if self.relay is not None else {}
        for name, loop in (("network", self.network_loop), ("application", self.application_loop)):
            if loop is not None:
                found |= {f"{name}_rounds": loop.rounds, f"{name}_sleeps": loop.sleeps}
        return found


class Threads:
    """Runs engines and their applications in threads. Nothing is shared between members.

    model: ``"unified"``: an engine and its application in one thread; ``"merge"``: two threads on one core; ``"split"``:
    two threads on two cores. idle: what a thread does that has nothing to do: ``"spin"``, ``"spin-then-sleep"`` (after
    `spin` seconds) or ``"sleep"``. pin: give each thread a core of its own, in turn, as far as there are enough. Between two
    threads: ring, the events (and requests) that may wait, and stock, empty packets at the application's hand (powers of
    two); patience: seconds after which an application that reads nothing is given up and its connections are aborted,
    0: never.
    """

    def __init__(self, model: str = "unified", *, idle: str = "spin-then-sleep", spin: float = 50e-6, pin: bool = True,
                 ring: int = 8192, stock: int = 256, patience: float = 10.0) -> None:
        if model not in MODELS:
            raise ConfigError(f"model={model!r}: use one of {', '.join(MODELS)}")
        if not 0 <= patience <= 86400:
            raise ConfigError(f"patience={patience!r}: must be from 0 to 86400 seconds")
        self.model, self.idle, self.spin, self.pin = model, idle, spin, pin
        self.ring, self.stock, self.patience = ring, stock, patience
        self.members: list[Member] = []
        self._ended = threading.Event()
        self._peers: dict[Member, Engine] = {}
        self._started = False

    def add(self, config: Config, handler: object, driver: Driver, *, pool: PacketPool | None = None, seed: int | None = None,
            peer: Engine | None = None, cores: Sequence[int] | None = None, name: str = "iip") -> Member:
        """Make an engine for `handler`. peer: another engine, which a memory link joins to it and the same thread runs; cores:
        of the network's and the application's thread, None: in turn; name: of the threads."""
        if self._started:
            raise IipError("add: the threads run already; add everything before start()")
        where = self._cores(len(self.members), cores)
        if self.model == "unified":
            engine = Engine(config, handler, driver, pool, seed)
            member = Member(engine, engine, None, where, name)
        else:
            link = Link(self.ring, self.stock)
            relay = Relay(link, config.max_connections, self.patience)
            engine = Engine(config, relay, driver, pool, seed)
            relay.supply_stock(engine)
            member = Member(engine, Remote(engine, link, handler), relay, where, name)
        if peer is not None:
            self._peers[member] = peer
        self.members.append(member)
        return member

    def _cores(self, number: int, wanted: Sequence[int] | None) -> tuple[int | None, int | None]:
        split = self.model == "split"
        if wanted is not None:
            if len(wanted) != 1 + split:
                raise ConfigError(f"cores={tuple(wanted)}: model {self.model!r} needs {1 + split} for each engine")
            return wanted[0], wanted[-1]
        if not self.pin or not hasattr(os, "sched_getaffinity"):
            return None, None
        there = sorted(os.sched_getaffinity(0))
        first = number * (1 + split)
        return there[first % len(there)], there[(first + split) % len(there)]

    # -- running -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all threads."""
        if self._started:
            raise IipError("start: the threads run already")
        self._started = True
        _running.add(self)
        settings: dict[str, Any] = {"idle": self.idle, "spin": self.spin}
        for member in self.members:
            member.network_loop = NetworkLoop(member.engine, self._peers.get(member), **settings)
            self._thread(member, self._network, f"{member.name}-net", member.cores[0])
            if member.relay is not None:
                member.application_loop = ApplicationLoop(member.application, **settings)
                self._thread(member, self._application, f"{member.name}-app", member.cores[1])
        for member in self.members:
            for thread in member.threads:
                thread.start()

    def _thread(self, member: Member, work: Callable[[Member], None], name: str, core: int | None) -> None:
        def run() -> None:
            name_thread(name)
            if core is not None:
                with contextlib.suppress(OSError):    # a core that was taken away meanwhile
                    os.sched_setaffinity(0, {core})
            try:
                work(member)
            except BaseException as error:
                if member.error is None:
                    member.error = error
            finally:
                self._ended.set()
        member.threads.append(threading.Thread(target=run, name=name, daemon=True))

    @staticmethod
    def _network(member: Member) -> None:
        assert member.network_loop is not None
        try:
            member.network_loop.run()
        finally:
            if member.relay is not None:
                member.relay.end()

    @staticmethod
    def _application(member: Member) -> None:
        assert member.application_loop is not None
        try:
            why = member.application_loop.run()
        finally:
            member.application.end()
        if why == "given up":
            raise _given_up(member)

    @property
    def error(self) -> BaseException | None:
        """What ended a thread, the first of it; None while all is well."""
        for member in self.members:
            if member.error is not None:
                return member.error
            if member.relay is not None and member.relay.given_up:
                return _given_up(member)
        return None

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until a thread has ended; False if none has within `seconds`."""
        return self._ended.wait(seconds)

    def stop(self) -> None:
        """End all threads, abort what is open and close the engines. Raises what ended a thread before its time."""
        _running.discard(self)
        for member in self.members:
            if member.network_loop is not None:
                member.network_loop.stop()
        until = time.monotonic() + _LEAVE
        for member in self.members:       # the application's threads end when the network's have
            for thread in member.threads:
                if thread.ident is not None:
                    thread.join(max(0.0, until - time.monotonic()))
                    member.left |= thread.is_alive()
        error = self.error
        for member in self.members:
            self._close(member)
        left = [member.name for member in self.members if member.left]
        if error is not None:
            raise error
        if left:
            raise IipError(f"{', '.join(left)}: a callback does not return, so its thread and its packets stay behind")

    def _close(self, member: Member) -> None:
        if member.left or member.closed:
            return
        member.closed = True
        if member.relay is not None:
            member.application.release()
            member.relay.empty(member.engine)
        if member.error is None:
            with contextlib.suppress(IipError):
                member.engine.abort_all()
                member.engine.run(time.monotonic_ns())    # so that the peers need not wait for us
        if member.relay is not None:
            member.relay.empty(member.engine)
        member.engine.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            self.stop()
        except BaseException:
            if kind is None:
                raise


_running: weakref.WeakSet[Threads] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """No thread may take the GIL when the interpreter ends."""
    for threads in list(_running):
        with contextlib.suppress(BaseException):
            threads.stop()


def _given_up(member: Member) -> IipError:
    return IipError(f"{member.name}: the application read nothing for so long that it was given up and its connections were "
                    "aborted; callbacks must not wait, or raise patience")
