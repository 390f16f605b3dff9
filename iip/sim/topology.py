"""Usual shapes of networks. All take a simulation, how many hosts, and settings; names are as in the results."""
from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from iip.sim.network import Host
from iip.sim.nodes import Router
from iip.sim.simulation import Link, Simulation


class Dumbbell(NamedTuple):
    """Senders left, receivers right, all through one link."""

    left: list[Host]
    right: list[Host]
    bottleneck: Link
    access: list[Link]            # of the left hosts, then of the right ones


class Star(NamedTuple):
    """Hosts around one router."""

    centre: Router
    hosts: list[Host]
    links: list[Link]


class Chain(NamedTuple):
    """Two hosts with routers between them."""

    first: Host
    routers: list[Router]
    last: Host
    links: list[Link]


def dumbbell(sim: Simulation, pairs: int, *, bottleneck: dict[str, Any] | None = None,
             access: dict[str, Any] | None = None, **settings: Any) -> Dumbbell:
    """`pairs` hosts on either side of two routers. bottleneck, access: settings of those links; others: of hosts.
    Hosts are ``left0``, ``right0``, ..., the routers ``west`` and ``east``."""
    west, east = sim.router("west"), sim.router("east")
    middle = sim.link(west, east, **(bottleneck or {}))
    left = [sim.host(f"left{i}", **settings) for i in range(pairs)]
    right = [sim.host(f"right{i}", **settings) for i in range(pairs)]
    links = [sim.link(host, west, **(access or {})) for host in left]
    links += [sim.link(host, east, **(access or {})) for host in right]
    return Dumbbell(left, right, middle, links)


def star(sim: Simulation, hosts: int, *, link: dict[str, Any] | None = None, **settings: Any) -> Star:
    """`hosts` hosts around the router ``centre``: ``host0``, ``host1``, ..."""
    centre = sim.router("centre")
    found = [sim.host(f"host{i}", **settings) for i in range(hosts)]
    return Star(centre, found, [sim.link(host, centre, **(link or {})) for host in found])


def chain(sim: Simulation, routers: int, *, link: dict[str, Any] | None = None, **settings: Any) -> Chain:
    """``first`` and ``last`` with `routers` routers between them: ``router0``, ..."""
    first = sim.host("first", **settings)
    middle = [sim.router(f"router{i}") for i in range(routers)]
    last = sim.host("last", **settings)
    nodes = [first, *middle, last]
    return Chain(first, middle, last,
                 [sim.link(a, b, **(link or {})) for a, b in pairwise(nodes)])
