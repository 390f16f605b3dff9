"""What the engine says, passed on to sockets by whoever has run it, with the lock. But for `tcp_accept` that is after the
pass, when a connection may be over that something is said about. What was interrupted is said again."""
from __future__ import annotations

from typing import TYPE_CHECKING

from iip.connection import Connection, Reason
from iip.events import Datagram, IcmpError, IcmpReply, Syn
from iip.socket.base import find
from iip.socket.datagram import IcmpCore
from iip.socket.stream import listener

if TYPE_CHECKING:
    from iip.socket.stack import Stack

_UDP = 17


class Events:
    """The handler of a stack's engine. `context` of a connection is its `StreamCore`, or None when nobody has the socket any
    more."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def tcp_accept(self, syn: Syn) -> bool:
        core = listener(self.stack, syn.local_address, syn.local_port)
        return core is not None and core.room()

    def tcp_accepted(self, conn: Connection) -> None:
        core = listener(self.stack, *conn.local)
        if conn.context is not None or conn.closed:
            return                # this was said before; it is over
        if core is None or not core.room():
            conn.abort()
        else:
            core.accepted(conn)

    def tcp_connected(self, conn: Connection) -> None:
        if conn.context is not None and not conn.closed:
            conn.context.connected()

    def tcp_acked(self, conn: Connection, n: int) -> None:
        if conn.context is not None and not conn.closed:
            conn.context.acked(n)

    def tcp_shutdown(self, conn: Connection) -> None:
        if conn.context is not None:
            conn.context.finished()

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        if conn.context is not None:
            conn.context.closed(reason)
            conn.context = None
        else:
            self.stack.gone(conn)

    def udp_payload(self, datagram: Datagram) -> None:
        core = find(self.stack.datagrams, datagram.destination, datagram.destination_port)
        if core is not None:
            core.arrived(datagram)

    def icmp_reply(self, reply: IcmpReply) -> None:
        for core in list(self.stack.cores):
            if isinstance(core, IcmpCore):
                core.replied(reply)

    def icmp_error(self, error: IcmpError) -> None:
        if error.protocol == _UDP:
            for (_place, port), core in list(self.stack.datagrams.items()):
                if port == error.source_port:
                    core.refused(error)
