"""One engine in virtual time: its clock, what it sent, and the sockets that its callbacks feed."""
from __future__ import annotations

import ipaddress
from collections import deque
from typing import TYPE_CHECKING, Any

import iip
from iip.drivers import Tunnel
from iip.script.packets import ICMP6, Live, parse_packet

if TYPE_CHECKING:
    from iip.script.sockets import TcpSocket, UdpSocket

START = 10_000_000_000            # ns at the script's time zero
_NOT_SHOWN = {2, 58}              # IGMP; of ICMPv6 what hosts say on their own
_HOST_CHATTER = range(130, 144)


class Stack(iip.Handler):
    """An engine behind a tunnel. `now`: microseconds of the script's time. `sent`: packets nobody has asked for yet."""

    def __init__(self, config: iip.Config, seed: int = 1):
        self.driver = Tunnel(mtu=config.mtu, capacity=4096)
        self.engine: Any = iip.Engine(config, self, self.driver, seed=seed)
        self.now = 0
        self.next: int | None = None  # ns
        self.sent: deque[Live] = deque()
        self.log: deque[tuple[str, Live]] = deque(maxlen=64)
        self.listeners: dict[int, TcpSocket] = {}
        self.udp: dict[int, UdpSocket] = {}
        self.observer: Any = None            # called with every packet that leaves
        self.after_run: list[Any] = []       # functions to call whenever the engine has run
        self.icmp: dict[int, str] = {}       # by local port: errno of the latest ICMP error
        self.run()

    def close(self) -> None:
        self.engine.close()
        self.driver.close()

    # -- time ----------------------------------------------------------------------------------------------

    @property
    def ns(self) -> int:
        return START + self.now * 1000

    def run(self) -> None:
        """Let the engine do everything that is due now."""
        for _ in range(1000):
            self.next = self.engine.run(self.ns)
            for raw in self.driver.drain():
                self._note(raw)
            for call in list(self.after_run):
                call()
            if not self.driver.waiting and (self.next is None or self.next > self.ns):
                if not self.after_run:
                    return
                again = self.engine.run(self.ns)     # what woken calls asked for
                outgoing = self.driver.drain()
                for raw in outgoing:
                    self._note(raw)
                self.next = again
                if not outgoing and (again is None or again > self.ns):
                    return
        raise RuntimeError("the engine does not come to rest")

    def step(self, limit: int) -> bool:
        """Advance to the engine's next deadline, not beyond `limit` (µs). False: nothing was due until then."""
        if self.next is None:
            due = None
        else:
            due = max(-(-(self.next - START) // 1000), self.now)
        if due is None or due > limit:
            self.now = max(self.now, limit)
            self.run()
            return False
        self.now = due
        self.run()
        return True

    def advance(self, to: int) -> None:
        """Let time pass to `to` (µs), with every deadline on the way."""
        while self.step(to):
            pass

    # -- packets -------------------------------------------------------------------------------------------

    def _note(self, raw: bytes) -> None:
        live = parse_packet(raw, self.now)
        if live.protocol in _NOT_SHOWN and (live.protocol != ICMP6 or live.icmp_type in _HOST_CHATTER):
            return
        if self.observer is not None:
            self.observer(live)
        self.sent.append(live)
        self.log.append((">", live))

    def feed(self, raw: bytes, lost: bool = False) -> Live:
        """A packet from the network, now. `lost`: the sockets will not have it."""
        live = parse_packet(raw, self.now)
        self.log.append(("<", live))
        if lost:
            return live
        self.driver.feed(raw)
        self.run()
        return live

    # -- callbacks -----------------------------------------------------------------------------------------

    def tcp_accept(self, syn: Any) -> bool:
        listener = self.listeners.get(syn.local_port)
        return listener is not None and listener.admits(syn)

    def tcp_accepted(self, conn: Any) -> None:
        listener = self.listeners.get(conn.local[1])
        if listener is None:
            conn.abort()
        else:
            listener.arrived(conn)

    def tcp_connected(self, conn: Any) -> None:
        if conn.context is not None:
            conn.context.connected()

    def tcp_payload(self, conn: Any, data: Any) -> None:
        if conn.context is not None:
            conn.context.payload(bytes(data))

    def tcp_acked(self, conn: Any, n: int) -> None:
        if conn.context is not None:
            conn.context.generation += 1
            conn.context.error_queue.acknowledged(self.now)

    def tcp_shutdown(self, conn: Any) -> None:
        if conn.context is not None:
            conn.context.peer_done()

    def tcp_closed(self, conn: Any, reason: Any) -> None:
        if conn.context is not None:
            conn.context.over(reason)

    def udp_payload(self, datagram: Any) -> None:
        socket = self.udp.get(datagram.destination_port)
        if socket is not None:
            socket.arrived(datagram)

    def icmp_error(self, error: Any) -> None:
        errno = icmp_errno(error)
        self.icmp[error.source_port] = errno
        socket = self.udp.get(error.source_port)
        if socket is not None and error.protocol == 17:
            socket.failed(errno, error)


def icmp_errno(error: Any) -> str:
    """The errno that an ICMP error of the engine's becomes."""
    return errno_of_icmp(error.destination.version, error.type, error.code)


def errno_of_icmp(version: int, kind: int, code: int) -> str:
    """The errno that an ICMP error becomes (RFC 1122 §4.2.3.9 and Linux's table)."""
    if kind == 3 and version == 4:
        table = {0: "ENETUNREACH", 1: "EHOSTUNREACH", 2: "ENOPROTOOPT", 3: "ECONNREFUSED", 4: "EMSGSIZE",
                 5: "EOPNOTSUPP", 6: "ENETUNREACH", 7: "EHOSTDOWN", 8: "ENONET", 9: "ENETUNREACH", 10: "EHOSTUNREACH",
                 11: "ENETUNREACH", 12: "EHOSTUNREACH", 13: "EHOSTUNREACH", 14: "EHOSTUNREACH", 15: "EHOSTUNREACH"}
        return table.get(code, "EHOSTUNREACH")
    if kind == 1 and version == 6:
        return {0: "ENETUNREACH", 1: "EACCES", 2: "EHOSTUNREACH", 3: "EHOSTUNREACH", 4: "ECONNREFUSED",
                5: "EACCES", 6: "EACCES"}.get(code, "EPROTO")
    if kind in (4, 12):
        return "EPROTO"
    return "EHOSTUNREACH"


def address(text: str) -> Any:
    return ipaddress.ip_address(text)
