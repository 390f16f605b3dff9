"""A packet that left against the packet of the script."""
from __future__ import annotations

from typing import Any

from iip.script.flows import SYN, Flow
from iip.script.packets import (
    ICMP,
    ICMP4_TYPES,
    ICMP6,
    ICMP6_TYPES,
    PARAMETER6,
    TCP,
    TIME4,
    TIME6,
    UDP,
    UNREACHABLE4,
    UNREACHABLE6,
    Live,
    flag_text,
    option_text,
)
from iip.script.syntax import ANY, IcmpPacket, IpFields, Option, PacketEvent, TcpPacket, UdpPacket

ECN_NAMES = {0: "noecn", 1: "ect1", 2: "ect0", 3: "ce"}
PSH, ACK, FLAGS_OF_ACE = 8, 16, 0x1C0


def packet_text(p: Live, flow: Flow | None) -> str:
    """A live packet in the language, as far as it has words for it."""
    ecn = f"[{ECN_NAMES[p.tos & 3]}] " if p.tos & 3 else ""
    if p.protocol == TCP:
        return ecn + _tcp_text(p, flow)
    if p.protocol == UDP:
        return f"{ecn}udp ({len(p.data)})"
    if p.protocol in (ICMP, ICMP6):
        return f"icmp type {p.icmp_type} code {p.icmp_code}"
    return f"protocol {p.protocol}"


def _tcp_text(p: Live, flow: Flow | None) -> str:
    seq = p.seq if flow is None else flow.scripted(p.seq)
    text = f"{flag_text(p.flags)} {seq}:{seq + len(p.data)}({len(p.data)})"
    if p.flags & ACK:
        text += f" ack {p.ack}"
    text += f" win {p.window}"
    if p.urgent:
        text += f" urg {p.urgent}"
    if p.options:
        text += " <" + ",".join(map(option_text, p.options)) + ">"
    return text


def received_text(p: Live, flow: Flow | None) -> str:
    """A packet that went in: its acknowledgement is of our numbers."""
    if p.protocol != TCP or flow is None:
        return packet_text(p, None)
    text = f"{flag_text(p.flags)} {p.seq}:{p.seq + len(p.data)}({len(p.data)})"
    if p.flags & ACK:
        text += f" ack {flow.scripted(p.ack)}"
    text += f" win {p.window}"
    options = [Option("sack", tuple((flow.scripted(a), flow.scripted(b)) for a, b in o.value)) if o.kind == "sack" else o
               for o in p.options]
    return text + (" <" + ",".join(map(option_text, options)) + ">" if options else "")


def differences(event: PacketEvent, p: Live, flow: Flow | None) -> list[str]:
    """What differs, each with the script's value first. Learns our sequence numbers and timestamps on the way."""
    body = event.body
    found: list[str] = []
    if isinstance(body, TcpPacket):
        if p.protocol != TCP or flow is None:
            return [f"a TCP segment was expected, protocol {p.protocol} came"]
        found += _tcp(body, p, flow)
    elif isinstance(body, UdpPacket):
        if p.protocol != UDP:
            return [f"a UDP datagram was expected, protocol {p.protocol} came"]
        found += _udp(body, p)
    else:
        if p.protocol not in (ICMP, ICMP6):
            return [f"an ICMP message was expected, protocol {p.protocol} came"]
        found += _icmp(body, p)
    return found + _ip(event.ip, p) + _addresses(event, p)


def _check(name: str, expected: Any, actual: Any) -> list[str]:
    return [] if expected is None or expected is ANY or expected == actual else \
        [f"{name}: expected {expected}, got {actual}"]


def _ip(ip: IpFields, p: Live) -> list[str]:
    found = []
    ecn = ECN_NAMES[p.tos & 3]
    if ip.ecn == "ect01":
        if ecn not in ("ect0", "ect1"):
            found.append(f"ECN: expected ect0 or ect1, got {ecn}")
    else:
        found += _check("ECN", ip.ecn, ecn)
    return (found + _check("tos", ip.tos, p.tos) + _check("ttl", ip.ttl, p.ttl)
            + _check("flow label", ip.flow_label, p.flow_label))


def _addresses(event: PacketEvent, p: Live) -> list[str]:
    found = []
    if event.addresses:
        found += _check("source", event.addresses[0], str(p.source))
        found += _check("destination", event.addresses[1], str(p.destination))
    ports = getattr(event.body, "ports", None)
    if ports:
        found += _check("ports", ports, (p.sport, p.dport))
    return found


# -- TCP ---------------------------------------------------------------------------------------------------

def ace_flags(ace: int) -> int:
    """The three bits of the ACE counter as the flags AE, CWR, ECE."""
    return (ace & 4) << 6 | (ace & 2) << 6 | (ace & 1) << 6


def _tcp(body: TcpPacket, p: Live, flow: Flow) -> list[str]:
    flags = body.flags | (0 if body.ace is None else ace_flags(body.ace))
    actual = p.flags | (flags & PSH if p.merged > 1 else 0)      # Linux sets it on all that a device cuts
    found = _check("flags", flag_text(flags), flag_text(actual))
    if not found and p.flags & SYN:
        flow.iss, flow.script_iss = p.seq, body.seq
    seq = flow.scripted(p.seq)
    found += _check("sequence number", body.seq, seq) + _check("payload length", body.length, len(p.data))
    if p.flags & ACK:
        found += _check("acknowledgement", None if body.ack in (None, -1) else body.ack, p.ack)
    found += _check("window", body.window, p.window)
    if p.flags & 32 or body.flags & 32:
        found += _check("urgent pointer", body.urgent, p.urgent)
    if body.payload is not None:
        found += _check("payload", body.payload, p.data)
    return found + _options(body, p, flow)


def _options(body: TcpPacket, p: Live, flow: Flow) -> list[str]:
    expected, actual = list(body.options), list(p.options)
    while actual and actual[-1].kind == "eol" and len(actual) > len(expected):
        actual.pop()
    if body.any_options:
        missing = [o for o in expected if not any(_same(o, a) for a in actual)]
        good = not missing
    else:
        good = len(expected) == len(actual) and all(map(_same, expected, actual))
    if not good:
        return [f"options: expected <{','.join(map(option_text, expected))}{',...' if body.any_options else ''}>, "
                f"got <{','.join(map(option_text, actual))}>"]
    for option in expected:
        if option.kind == "TS":
            real = next(a.value[0] for a in actual if a.kind == "TS")
            if not flow.learn(option.value[0], real):
                return [f"timestamp: expected {option.value[0]} by the script's clock, got {real - flow.first_real} more than "
                        "the first"]
        elif option.kind in ("FO", "FOEXP") and option.value is not ANY and option.value and p.flags & ACK:
            flow.cookies[option.value] = next(a.value for a in actual if a.kind == option.kind)
    return []


def _same(expected: Option, actual: Option) -> bool:
    """Our timestamps are the script's to name; what they echo is compared."""
    if expected.kind != actual.kind:
        return False
    if expected.kind == "TS":
        return expected.value[1] is ANY or expected.value[1] == actual.value[1]
    if expected.kind in ("FO", "FOEXP") and expected.value is not ANY and expected.value and actual.value:
        return True               # which bytes a cookie of ours has is not for the script to say
    return expected.value is ANY or expected.value == actual.value


# -- UDP and ICMP ------------------------------------------------------------------------------------------

def _udp(body: UdpPacket, p: Live) -> list[str]:
    found = _check("payload length", body.length, len(p.data))
    return found + (_check("payload", body.payload, p.data) if body.payload is not None else [])


def icmp_numbers(body: IcmpPacket, version: int) -> tuple[int, int]:
    """Type and code of an ICMP message of the script; KeyError: no such name."""
    types = ICMP4_TYPES if version == 4 else ICMP6_TYPES
    kind = int(body.type) if body.type.isdigit() else types[body.type]
    if body.code is None:
        return kind, 0
    if isinstance(body.code, int) or body.code.isdigit():
        return kind, int(body.code)
    tables = ({3: UNREACHABLE4, 11: TIME4} if version == 4 else {1: UNREACHABLE6, 3: TIME6, 4: PARAMETER6})
    return kind, tables.get(kind, {})[body.code]


def _icmp(body: IcmpPacket, p: Live) -> list[str]:
    kind, code = icmp_numbers(body, p.version)
    found = _check("ICMP type", kind, p.icmp_type) + _check("ICMP code", code, p.icmp_code)
    if body.mtu:
        found += _check("MTU", body.mtu, p.icmp_parameter if p.version == 6 else p.icmp_parameter & 0xFFFF)
    if body.length:
        found += _check("length", body.length, len(p.data))
    return found
