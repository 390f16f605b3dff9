"""What the engine says, passed on to servers, attempts to connect, transports and endpoints."""
from __future__ import annotations

from typing import TYPE_CHECKING

from iip.aio.handler import Sink
from iip.connection import Connection, Reason
from iip.events import Conflict, Datagram, IcmpError, RouterAdvertisement, Syn

if TYPE_CHECKING:
    from iip.aio.stack import Stack


class Events:
    """The handler of a stack's engine. `context` of a connection is an `Attempt`, then a `Sink`, and None for one that its
    transport has let go."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def tcp_accept(self, syn: Syn) -> bool:
        return self.stack.listeners.find(syn.local_address, syn.local_port) is not None

    def tcp_accepted(self, conn: Connection) -> None:
        server = self.stack.listeners.find(*conn.local)
        if server is None:
            conn.abort()
        else:
            server.accepted(conn)

    def tcp_connected(self, conn: Connection) -> None:
        if conn.context is not None:
            conn.context.connected(conn)

    def tcp_shutdown(self, conn: Connection) -> None:
        if isinstance(conn.context, Sink):
            conn.context.transport.shutdown()

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        context = conn.context
        if context is None:
            self.stack.gone(conn)
        elif isinstance(context, Sink):
            context.transport.closed(reason)
        else:
            context.failed(reason)

    def udp_payload(self, datagram: Datagram) -> None:
        self.stack.datagrams.arrived(datagram)

    def icmp_error(self, error: IcmpError) -> None:
        self.stack.datagrams.failed(error)

    def router_advertisement(self, advertisement: RouterAdvertisement) -> None:
        for hear in self.stack.hearing:
            hear(advertisement)

    def address_conflict(self, conflict: Conflict) -> None:
        for hear in self.stack.hearing:
            hear(conflict)
