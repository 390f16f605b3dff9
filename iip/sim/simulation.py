"""The simulation as a program builds it: hosts, routers, switches and links in virtual time."""
from __future__ import annotations

import hashlib
import heapq
import ipaddress
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal

import iip
from iip.drivers.impairments import CoDel, DropTail, GilbertElliott, Impairments
from iip.drivers.pcapng import INBOUND, OUTBOUND, PcapngWriter
from iip.errors import ConfigError, IipError
from iip.sim.network import Host, Network, Node, Port, Way
from iip.sim.nodes import Router, Switch
from iip.sim.traffic import Traffic

NO_LIMIT = 65535                  # an MTU that never matters
_NEVER = 1 << 62


def _ns(seconds: float, name: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e9:
        raise ConfigError(f"{name}={seconds!r}: must be from 0 to 1e9 seconds")
    return round(seconds * 1e9)


class Link:
    """Two directions between two nodes; `Simulation.link` makes it."""

    def __init__(self, there: Way, back: Way) -> None:
        self.there, self.back = there, back

    @property
    def a(self) -> Node:
        return self.there.source

    @property
    def b(self) -> Node:
        return self.there.target

    def stats(self) -> dict[str, dict[str, int]]:
        """What happened to packets, by direction: ``there`` from `a` to `b`, and ``back``."""
        return {"there": self.there.stats(), "back": self.back.stats()}

    def __repr__(self) -> str:
        return f"<Link {self.a.name} - {self.b.name}>"


class Simulation(Network):
    """Engines joined by links, in a time of their own. The same seed gives the same packets, bit by bit.

    seed: any int; packets, packet_size: of the pool for packets on links (`iip.Exhausted` when it is too small).
    Times are seconds from the beginning.
    """

    def __init__(self, seed: int = 1, *, packets: int = 32768, packet_size: int = 2048) -> None:
        super().__init__(packets, packet_size)
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        self.links: list[Link] = []
        self.traffic = Traffic(self)
        self._calls: list[tuple[int, int, Callable[[], object], bool]] = []
        self._order = 0
        self._automatic: set[Router] = set()
        self._routed = True
        self._writers: list[PcapngWriter] = []
        self._stopped = self._closed = self._inside = False

    def _seed_for(self, *what: object) -> int:
        """A seed that depends on nothing but ours and the name of what it is for."""
        text = "/".join(map(str, (self.seed, *what)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    # -- what there is ------------------------------------------------------------------------------------------

    def host(self, name: str, addresses: Sequence[str] | str | None = None, *, handler: object = None,
             config: iip.Config | None = None, **settings: Any) -> Host:
        """A node with an engine.

        addresses: interface notations; by default the nth node has ``10.x.y.z/8`` and ``fd00::n/64``. handler: an
        `iip.Handler` or one written in Cython; by default the one that `BulkFlow` needs. config: all settings at
        once; otherwise `settings` are those of `iip.Config`, with ``medium="ip"`` and without conflict checks.
        """
        number = self._new(name)
        if config is None:
            if addresses is None:
                mtu = settings.get("mtu", 1500)
                addresses = [self._address(4, number) + "/8"]
                if mtu >= 1280:
                    addresses.append(self._address(6, number) + "/64")
            size = (settings.get("mtu", 1500) + 18 + 128 + 63) // 64 * 64
            config = iip.Config(**{"addresses": addresses, "medium": "ip", "address_check": False, "link_local": False,
                                   "packet_size": max(2048, size), **settings})
        elif addresses is not None or settings:
            raise ConfigError(f"host {name}: give config, or addresses and settings, not both")
        port = Port(self, medium="ethernet" if config.medium == "ethernet" else "ip", mtu=config.mtu)
        made = config

        def engine(port: Port) -> iip.Engine:
            return iip.Engine(made, self.traffic if handler is None else handler, port,
                              seed=self._seed_for("host", name))

        node = Host(self, name, port, engine)
        if handler is None:
            node.engine.tcp_listen(0)
        self.nodes[name] = node
        return node

    def router(self, name: str, *, automatic: bool = True) -> Router:
        """A node that forwards IP packets. automatic: it knows the shortest way to every address of the simulation;
        otherwise, or beside it, `route` tells it."""
        number = self._new(name)
        node = Router(self, name, self._address(4, number), self._address(6, number))
        self.nodes[name] = node
        if automatic:
            self._automatic.add(node)
        return node

    def switch(self, name: str) -> Switch:
        """A node that forwards Ethernet frames between hosts with ``medium="ethernet"``."""
        self._new(name)
        node = Switch(self, name)
        self.nodes[name] = node
        return node

    def route(self, router: Router, prefix: str, to: Node) -> None:
        """`router` forwards packets for `prefix` (``"10.1.0.0/16"``) to its neighbour `to`."""
        for port, way in enumerate(router.ways):
            if way.target is to:
                router.add_route(prefix, port)
                return
        raise ConfigError(f"{router.name} and {to.name} are not linked; link them before you route")

    def link(self, a: Node, b: Node, *, rate: float = 0.0, delay: float = 0.0, jitter: float = 0.0,
             loss: float | GilbertElliott = 0.0, reorder: float = 0.0, reorder_delay: float = 0.001,
             duplicate: float = 0.0, corrupt: float = 0.0, queue: int | DropTail | CoDel = 1 << 18,
             limit: int = 16384, mtu: int = NO_LIMIT, back: dict[str, Any] | None = None) -> Link:
        """Join two nodes. The settings are those of `iip.drivers.Impairments`, for both directions alike; `back`
        says which are others from `b` to `a`. mtu: bytes of an IP packet; routers obey it, what a host sends beyond
        it is dropped."""
        if a.medium != b.medium:
            raise ConfigError(f"link {a.name} - {b.name}: {a.name} speaks {a.medium} and {b.name} {b.medium}; hosts at "
                              "a switch need medium='ethernet', at a router medium='ip'")
        if a is b:
            raise ConfigError(f"link {a.name} - {b.name}: a node cannot be linked to itself")
        for node in (a, b):
            if isinstance(node, Host) and node.ways:
                raise ConfigError(f"{node.name}: a host has one interface, and it is linked already; use a router or a "
                                  "switch to reach several")
        settings = {"rate": rate, "delay": delay, "jitter": jitter, "loss": loss, "reorder": reorder,
                    "reorder_delay": reorder_delay, "duplicate": duplicate, "corrupt": corrupt, "queue": queue,
                    "limit": limit, "mtu": mtu}
        other = {**settings, **(back or {})}
        if unknown := sorted(set(other) - set(settings)):
            raise ConfigError(f"back: unknown settings {', '.join(unknown)}; they are {', '.join(settings)}")
        port_a, port_b = len(a.ways), len(b.ways)
        link = Link(self._way(a, b, settings, port_b), self._way(b, a, other, port_a))
        self.links.append(link)
        self._routed = False
        return link

    def _way(self, source: Node, target: Node, settings: dict[str, Any], port: int) -> Way:
        settings = dict(settings)
        mtu = settings.pop("mtu")
        if isinstance(mtu, bool) or not isinstance(mtu, int) or not 68 <= mtu <= NO_LIMIT:
            raise ConfigError(f"mtu={mtu!r}: must be from 68 to {NO_LIMIT} bytes")
        seed = self._seed_for("link", source.name, target.name, len(source.ways))
        return Way(self, source, target, Impairments(**settings), seed, mtu, port)

    def _new(self, name: str) -> int:
        if self._closed:
            raise IipError("the simulation is closed")
        if not name or name in self.nodes:
            raise ConfigError(f"name={name!r}: every node needs a name of its own")
        return len(self.nodes) + 1

    @staticmethod
    def _address(version: Literal[4, 6], number: int) -> str:
        base = ipaddress.ip_address("10.0.0.0" if version == 4 else "fd00::")
        return str(base + number)

    # -- routes -------------------------------------------------------------------------------------------------

    def _make_routes(self) -> None:
        self._routed = True
        addresses = {node: self._addresses(node) for node in self.nodes.values()}
        for router in sorted(self._automatic, key=lambda r: r.name):
            first: dict[Node, int] = {}
            reached: set[Node] = {router}
            todo = deque((way.target, port) for port, way in enumerate(router.ways))
            while todo:
                node, port = todo.popleft()
                if node in reached:
                    continue
                reached.add(node)
                first[node] = port
                if isinstance(node, Router):
                    todo.extend((way.target, port) for way in node.ways)
            for node, port in first.items():
                for address in addresses[node]:
                    router.add_route(address, port)

    @staticmethod
    def _addresses(node: Node) -> list[str]:
        if isinstance(node, Host):
            return [a.split("/")[0] for a in node.engine.addresses]
        return [node.address, node.address6] if isinstance(node, Router) else []

    # -- time ---------------------------------------------------------------------------------------------------

    def at(self, time: float, call: Callable[[], object]) -> None:
        """Call `call()` at `time`, before anything else that happens then; a time that has passed means at once."""
        self._call_at(_ns(time, "time"), call, False)

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call `call()` so many seconds from now."""
        self._call_at(self.now_ns + _ns(seconds, "seconds"), call, False)

    def observe(self, every: float, call: Callable[[], object], *, start: float = 0.0) -> None:
        """Call `call()` at `start` and then every so many seconds, as long as it does not return False. It must not
        change anything: engines are not run for its sake, so that looking does not alter what happens."""
        step = _ns(every, "every")
        if step == 0:
            raise ConfigError("every=0: must be longer than nothing")

        def look() -> None:
            if call() is not False:
                self._call_at(self.now_ns + step, look, True)

        self._call_at(max(self.now_ns, _ns(start, "start")), look, True)

    def _call_at(self, at: int, call: Callable[[], object], observer: bool) -> None:
        self._order += 1
        heapq.heappush(self._calls, (max(at, self.now_ns), self._order, call, observer))
        if self._inside:
            self.cut(at - 1)

    def stop(self) -> None:
        """From a callback: end `run` when it has returned."""
        self._stopped = True
        if self._inside:
            self.cut(self.now_ns - 1)

    def run(self, until: float | None = None, *, duration: float | None = None) -> float:
        """Let time pass until `until`, or for `duration`, or until nothing can happen any more; the time reached.

        Raises what callbacks raise; the simulation can go on afterwards.
        """
        if self._closed:
            raise IipError("the simulation is closed")
        if self._inside:
            raise IipError("run() was called from a callback; use at() or after() there")
        end = _NEVER if until is None else _ns(until, "until")
        if duration is not None:
            end = min(end, self.now_ns + _ns(duration, "duration"))
        if not self._routed:
            self._make_routes()
        self._stopped = False
        self.wake_all()
        self._inside = True
        try:
            while not self._stopped and self._run_part(end):
                pass
        finally:
            self._inside = False
        return self.now

    def _run_part(self, end: int) -> bool:
        """To the next call or to the end; whether to go on."""
        call_at = self._calls[0][0] if self._calls else _NEVER
        if call_at > end or (end == _NEVER == call_at):
            target = self.next_ns() if end == _NEVER else end
            if target is None:
                return False
            self.advance(target)
            return not self._stopped and self.now_ns < end
        if call_at > self.now_ns:
            self.advance(call_at - 1)
            if self._stopped or self.now_ns < call_at - 1 or self._calls[0][0] < call_at:
                return True
            self.reach(call_at)
        _, _, call, observer = heapq.heappop(self._calls)
        call()
        if not observer:
            self.wake_all()
        return True

    # -- looking ------------------------------------------------------------------------------------------------

    def capture(self, file: str | os.PathLike[str] | BinaryIO, *points: Host | Link | tuple[Link, Node],
                snaplen: int = 0) -> PcapngWriter:
        """Write packets into a pcapng file: at hosts, or at both ends of a link, or at the end of a link that a pair
        (link, node) names. Without points: at all hosts. Each end is an interface of the file. Packets that leave an
        end are recorded before the link's queue. Close the writer, or the simulation."""
        writer = PcapngWriter(file, snaplen=snaplen)
        for link, node in self._ends(points):
            out, back = (link.there, link.back) if node is link.a else (link.back, link.there)
            interface = writer.interface(node.medium, f"{node.name}:{back.source.name}")
            out.capture(writer, interface, OUTBOUND)
            back.capture(writer, interface, INBOUND)
        self._writers.append(writer)
        return writer

    def _ends(self, points: Sequence[Host | Link | tuple[Link, Node]]) -> list[tuple[Link, Node]]:
        ends: list[tuple[Link, Node]] = []
        for point in points or [n for n in self.nodes.values() if isinstance(n, Host) and n.ways]:
            if isinstance(point, Link):
                ends += [(point, point.a), (point, point.b)]
            elif isinstance(point, tuple):
                ends.append(point)
            else:
                found = [(link, point) for link in self.links if point in (link.a, link.b)]
                if not found:
                    raise ConfigError(f"capture: {point.name} is not linked; link it first")
                ends += found
        return ends

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the engines and lose what is on the links. Closing twice is allowed."""
        if self._closed:
            return
        self._closed = True
        self.traffic.release()
        for link in self.links:
            link.there.clear()
            link.back.clear()
        for node in self.nodes.values():
            if isinstance(node, Host):
                node.engine.driver.close()
                node.engine.close()
        for writer in self._writers:
            writer.close()

    @property
    def packets_in_use(self) -> int:
        """After `close`: 0, unless something leaked."""
        pools = {id(pool): pool for pool in (self.pool, *(n.engine.pool for n in self.nodes.values()
                                                          if isinstance(n, Host)))}
        return sum(p.packets - p.free_packets + p.views - p.free_views for p in pools.values())

    def __enter__(self) -> Simulation:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
