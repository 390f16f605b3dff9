"""Packets of the script that arrive: made into bytes and given to the stack."""
from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING, Any

from iip.script.errors import Unsupported
from iip.script.flows import SYN, Flow
from iip.script.matching import ace_flags, icmp_numbers
from iip.script.packet_grammar import ACK, RST
from iip.script.packets import ICMP, ICMP6, TCP, UDP, encode_options, icmp_message, ip_packet, tcp_segment, udp_datagram
from iip.script.stack import errno_of_icmp
from iip.script.syntax import IcmpPacket, IpFields, PacketEvent, TcpPacket, UdpPacket

if TYPE_CHECKING:
    from iip.script.runner import Runner

_ECN = {None: 0, "noecn": 0, "ect1": 1, "ect0": 2, "ect01": 2, "ce": 3}
_FIRST_PORT = 40001               # of peers that come to us


class Injector:
    def __init__(self, runner: Runner):
        self.runner = runner
        self.next_port = _FIRST_PORT
        self.cookies: set[Any] = set()        # servers that gave us a Fast Open cookie
        self.half_open: set[Any] = set()      # connections whose SYN, and those whose ACK went to a listener
        self.opened: set[Any] = set()

    def inject(self, event: PacketEvent) -> None:
        body = event.body
        if isinstance(body, TcpPacket):
            self._tcp(event, body)
        elif isinstance(body, UdpPacket):
            self._udp(event, body)
        else:
            self._icmp(event, body)

    def _send(self, event: PacketEvent, flow: Any, protocol: int, payload: bytes, lost: bool = False) -> None:
        ip = event.ip
        tos = (ip.tos or 0) | _ECN[ip.ecn]
        source, destination = flow.remote, flow.local
        raw = ip_packet(source, destination, protocol, payload, ttl=255 if ip.ttl is None else ip.ttl, tos=tos,
                        flow_label=ip.flow_label or 0)
        self.runner.stack.feed(raw, lost)

    # -- which connection ----------------------------------------------------------------------------------

    def flow(self, event: PacketEvent) -> Flow:
        """The connection that a packet of the script belongs to."""
        runner, settings = self.runner, self.runner.settings
        local, remote = settings.address("local"), settings.address("remote")
        lport, rport = settings.bind_port, 0
        if event.addresses:
            remote, local = map(ipaddress.ip_address, event.addresses)
        ports = getattr(event.body, "ports", None)
        if ports:
            return runner.flows.get(local, ports[1], remote, ports[0])
        kind, subject = runner.subject
        if kind == "flow":
            return subject      # type: ignore[no-any-return]
        if kind == "listen" and subject.local is not None:
            local, lport = subject.local[0] or local, subject.local[1]
        rport, self.next_port = self.next_port, self.next_port + 1
        flow = runner.flows.get(local, lport, remote, rport)
        runner.subject = ("flow", flow)
        return flow

    # -- TCP -----------------------------------------------------------------------------------------------

    def _tcp(self, event: PacketEvent, body: TcpPacket) -> None:
        flow = self.flow(event)
        flags = body.flags | (0 if body.ace is None else ace_flags(body.ace))
        ack = 0 if body.ack in (None, -1) else flow.real(body.ack or 0)
        data = body.payload if body.payload is not None else bytes(body.length)
        if body.flags & SYN and any(o.kind in ("FO", "FOEXP") and o.value for o in body.options):
            self.cookies.add(flow.remote)
        options = encode_options(flow.inbound_options(body.options))
        if len(options) > 40:
            raise Unsupported(f"{len(options)} bytes of TCP options")
        segment = tcp_segment(flow.remote, flow.local, flow.rport, flow.lport, body.seq, ack, flags,
                              65535 if body.window is None else body.window, body.urgent, options, data)
        self._send(event, flow, TCP, segment, self._overflows(flow, body))

    def _overflows(self, flow: Flow, body: TcpPacket) -> bool:
        """A segment that would make one connection more than the backlog of listen() allows is as good as lost."""
        listener = self.runner.stack.listeners.get(flow.lport)
        if listener is None or body.flags & RST:
            return False
        full = listener.full(1 if self.runner.settings.personality == "linux" else 1.5)
        if body.flags & (SYN | ACK) == SYN and flow.key not in self.opened:
            if not full:
                self.half_open.add(flow.key)
            return full
        if flow.key in self.half_open and body.flags & ACK:
            if not full:
                self.half_open.discard(flow.key)
                self.opened.add(flow.key)
            return full
        return False

    # -- UDP -----------------------------------------------------------------------------------------------

    def _udp_flow(self, event: PacketEvent) -> Flow:
        runner = self.runner
        kind, s = runner.subject
        if kind != "udp":
            return self.flow(event)
        local = s.local or (None, runner.settings.bind_port)
        remote = s.remote or s.spoken_to or (runner.settings.address("remote"), runner.settings.connect_port)
        ports = getattr(event.body, "ports", None)
        source = local[0] or runner.settings.address("local")
        return Flow(source, ports[1] if ports else local[1], remote[0], ports[0] if ports else remote[1])

    def _udp(self, event: PacketEvent, body: UdpPacket) -> None:
        flow = self._udp_flow(event)
        data = body.payload if body.payload is not None else bytes(body.length)
        self._send(event, flow, UDP, udp_datagram(flow.remote, flow.local, flow.rport, flow.lport, data))

    # -- ICMP ----------------------------------------------------------------------------------------------

    def _icmp(self, event: PacketEvent, body: IcmpPacket) -> None:
        version = self.runner.settings.wire_version
        try:
            kind, code = icmp_numbers(body, version)
        except KeyError as error:
            raise Unsupported(f"the ICMP message {body.type} {body.code or ''} ({error})") from None
        parameter = body.mtu
        if body.ident is not None:
            parameter = body.ident << 16
        if body.quoted:
            flow, quoted = self._quoted(event, body)
            self.runner.stack.icmp[flow.lport] = errno_of_icmp(version, kind, code)
        else:
            flow, quoted = self._icmp_flow(event), bytes(body.length)
        if body.quoted is None and kind not in (0, 8, 128, 129):
            flow, quoted = self._quoted(event, IcmpPacket(body.type, quoted=("tcp", 0, 0)))
        message = icmp_message(flow.remote, flow.local, kind, code, parameter, quoted)
        before = self.runner.stack.engine.stats()["tcp_icmp_soft_error"]
        self._send(PacketEvent(event.direction, body, event.ip, event.addresses), _reporter(event, flow),
                   ICMP if version == 4 else ICMP6, message)
        if self.runner.stack.engine.stats()["tcp_icmp_soft_error"] != before:
            self._soft_error(flow)

    def _soft_error(self, flow: Flow) -> None:
        """An open connection outlives it; who set IP_RECVERR hears of it."""
        for s in self.runner.sockets:
            if (s.local and s.local[1] == flow.lport and s.remote == (flow.remote, flow.rport)
                    and (s.options.get("IP_RECVERR") or s.options.get("IPV6_RECVERR"))):
                s.error = self.runner.stack.icmp.get(flow.lport)
                s.generation += 1

    def _icmp_flow(self, event: PacketEvent) -> Flow:
        settings = self.runner.settings
        return Flow(settings.address("local"), 0, settings.address("remote"), 0)

    def _quoted(self, event: PacketEvent, body: IcmpPacket) -> tuple[Flow, bytes]:
        """The start of a packet of ours, as a router quotes it."""
        assert body.quoted
        protocol, seq, length = body.quoted
        bare = PacketEvent(event.direction, body, IpFields(), None)
        if protocol == "udp":
            flow = self._udp_flow(bare)
            inner = struct.pack("!HHHH", flow.lport, flow.rport, 8 + length, 0)
            number = UDP
        else:
            flow = self.flow(bare)
            inner = struct.pack("!HHIIHHHH", flow.lport, flow.rport, flow.real(seq), 0, 5 << 12 | 16, 0, 0, 0)
            number = TCP
        whole = ip_packet(flow.local, flow.remote, number, inner + bytes(length), ttl=64)
        head = 20 if flow.local.version == 4 else 40
        return flow, whole[:head + 8 if flow.local.version == 4 and number == UDP else head + len(inner)]


def _reporter(event: PacketEvent, flow: Flow) -> Flow:
    """Who sends the error: the peer, unless the script names another."""
    if not event.addresses:
        return flow
    source, destination = map(ipaddress.ip_address, event.addresses)
    return Flow(destination, flow.lport, source, flow.rport)


