"""Packets of the language: IP fields, TCP segments with their options, UDP datagrams, ICMP messages."""
from __future__ import annotations

from typing import Any

from iip.script.errors import Unsupported
from iip.script.scanner import Scanner, number
from iip.script.syntax import ANY, IcmpPacket, IpFields, Option, PacketEvent, TcpPacket, UdpPacket, Word

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = (1 << i for i in range(9))
FLAG_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, ".": ACK, "U": URG, "E": ECE, "W": CWR, "C": CWR, "A": AE,
                "N": AE}
# RFC 9768 section 3.2.3: the counters of each kind; without any, the kind that comes first
ACCECN_ORDERS = {174: ("e1b", "ceb", "e0b"), 172: ("e0b", "ceb", "e1b")}
_ADDRESS = r"(?:\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)"
_TUNNELS = r"(ipv4|ipv6|gre|mpls|sit|vxlan)\b"
_SEQUENCE = r"(\d+)\s*:\s*(\d+)\s*\(\s*(\d+)\s*\)"
_COMPLEX = r"(mpcapable|mp_capable|mp_join|mp_join_syn|mp_join_ack|dss|dack4|dack8|add_address|add_addr|remove_addr|" \
           r"mp_fail|mp_fastclose|mp_prio|mp_reset|mptcp|ao|tcp-ao)\b"


def packet(s: Scanner, direction: str) -> PacketEvent:
    """A packet; `<` or `>` is taken."""
    addresses = _addresses(s)
    ports = _ports(s)
    ip = IpFields()
    while s.peek(r"[\[(]\s*[A-Za-z]"):
        ip = _ip_fields(s, ip)
    ports = _ports(s) or ports
    if found := s.peek(_TUNNELS):
        raise Unsupported(f"encapsulation ({found[1]})", s.line())
    if s.peek(r"addr\["):
        raise Unsupported("named addresses (MPTCP)", s.line())
    if found := s.peek(r"(sctp|udplite|dccp|esp|ah)\b"):
        raise Unsupported(f"the protocol {found[1]}", s.line())
    s.match(r"(?i:tcp)\b:?")
    if s.match(r"(?i:icmp)(v6|6)?\b:?"):
        body: Any = _icmp(s)
    elif s.match(r"(?i:udp)\b:?"):
        body = _udp(s, ports)
    else:
        body = _tcp(s, ports)
    return PacketEvent(direction, body, ip, addresses)


def _addresses(s: Scanner) -> tuple[str, str] | None:
    found = s.match(rf"({_ADDRESS})\s*>\s*({_ADDRESS})\s*:?(?=\s)")
    return (found[1], found[2]) if found else None


def _ports(s: Scanner) -> tuple[int, int] | None:
    found = s.match(r"\[?\s*(\d+)\s*>\s*(\d+)\s*[\]:]")
    return (int(found[1]), int(found[2])) if found else None


# -- IP ----------------------------------------------------------------------------------------------------

def _ip_fields(s: Scanner, fields: IpFields) -> IpFields:
    values = {"ecn": fields.ecn, "tos": fields.tos, "ttl": fields.ttl, "flow_label": fields.flow_label}
    close = "]" if s.take("[") or not s.expect("(") else ")"
    while not s.take(close):
        s.take(",")
        if found := s.match(r"(?i:noecn|ect01|ect0|ect1|ce)\b"):
            values["ecn"] = found[0].lower()
        elif s.match(r"(?i:tos|class|tclass|tc)\b\s*=?"):
            values["tos"] = s.integer()
        elif s.match(r"(?i:ttl|hlim|hop_limit|hl)\b\s*=?"):
            values["ttl"] = s.integer()
        elif s.match(r"(?i:flowlabel|fl)\b\s*=?"):
            values["flow_label"] = s.integer()
        else:
            s.error("noecn, ect0, ect1, ect01, ce, tos, ttl or flowlabel")
    return IpFields(**values)      # type: ignore[arg-type]


# -- TCP ---------------------------------------------------------------------------------------------------

def _flags(s: Scanner) -> tuple[int, int | None]:
    found = s.match(r"(?:[FSRPUEWCAN.]+[0-7]?|-|[0-7](?=\s))(?=\s|$)")
    if not found:
        s.error("TCP flags, 'udp' or 'icmp'")
    flags, ace = 0, None
    for letter in found[0].replace("-", ""):
        if letter.isdigit():
            ace = int(letter)
        else:
            flags |= FLAG_LETTERS[letter]
    return flags, ace


def _wild(s: Scanner) -> int:
    return -1 if s.match(r"\*|\.\.\.") else s.integer() & 0xFFFFFFFF


def _tcp(s: Scanner, ports: tuple[int, int] | None) -> TcpPacket:
    flags, ace = _flags(s)
    seq = length = 0
    if found := s.match(_SEQUENCE):
        seq, end, length = (int(found[i]) for i in (1, 2, 3))
        if (seq + length) & 0xFFFFFFFF != end & 0xFFFFFFFF:
            s.error(f"a length of {end - seq}, not {length}: {seq}:{end}({length}) contradicts itself")
    elif found := s.match(r"(\d+)\s*\(\s*(\d+)\s*\)"):
        seq, length = int(found[1]), int(found[2])
    else:
        s.error("a sequence range like 1:1001(1000)")
    ack = _wild(s) if s.word("ack") else None
    window = _wild(s) if s.word("win") else None
    urgent = s.integer() if s.word("urg") else 0
    options: list[Option] = []
    loose = False
    if s.peek(r"<") and not s.peek(r"<\s*$"):
        s.take("<")
        options, loose = _options(s)
    payload = s.string()
    return TcpPacket(flags, seq & 0xFFFFFFFF, length, ack, None if window == -1 else window, urgent, tuple(options),
                     loose, ace, payload.encode("latin-1") if payload is not None else None, ports)


def _options(s: Scanner) -> tuple[list[Option], bool]:
    """The list between angle brackets, and whether it is open-ended."""
    options: list[Option] = []
    loose = False
    while not s.take(">"):
        if options or loose:
            s.expect(",")
        if s.match(r"\.\.\."):
            loose = True
        else:
            options.append(_option(s))
    return options, loose


def _number_or_any(s: Scanner) -> Any:
    return ANY if s.match(r"\*|\.\.\.|\.(?=\s|,|>)") else s.integer() & 0xFFFFFFFF


def _option(s: Scanner) -> Option:
    if s.match(r"(?i:eol)\b"):
        return Option("eol")
    if s.match(r"(?i:nop)\b"):
        return Option("nop")
    if s.match(r"(?i:sackok)\b"):
        return Option("sackOK")
    if s.match(r"(?i:mss)\b"):
        return Option("mss", _number_or_any(s))
    if s.match(r"(?i:wscale|ws)\b"):
        return Option("wscale", _number_or_any(s))
    if s.match(r"(?i:sack)\b"):
        return Option("sack", _blocks(s))
    if s.match(r"(?i:ts)\b"):
        s.match(r"val\b")
        value = _number_or_any(s)
        s.match(r"ecr\b")
        return Option("TS", (value, _number_or_any(s)))
    if found := s.match(r"(FOEXP|exp-fastopen|FO|fastopen)\b\s*([0-9a-fA-F]+\b)?"):
        kind = "FOEXP" if found[1] in ("FOEXP", "exp-fastopen") else "FO"
        if not found[2] and (name := s.match(r"[A-Za-z_]\w*")):
            return Option(kind, Word(name[0]))
        if not found[2] and s.match(r"\.\.\.|\*"):
            return Option(kind, ANY)
        return Option(kind, _hex(s, found[2] or ""))
    return _rare_option(s)


def _rare_option(s: Scanner) -> Option:
    if found := s.match(r"md5\b\s*([0-9a-fA-F]{32}|valid|invalid)?"):
        if found[1] in ("valid", "invalid"):
            raise Unsupported("TCP MD5 signatures", s.line())
        return Option("md5", _hex(s, found[1] or "00" * 16))
    if s.match(r"(?:ECN|(?i:accecn[01]?))\b"):
        return Option("ECN", _accecn(s))
    if found := s.match(_COMPLEX):
        raise Unsupported(f"the TCP option {found[1]}", s.line())
    if found := s.match(r"(?:kind|gen|unknown|opt)\b\s*(0x[0-9a-fA-F]+|\d+)\s*(?:data)?\s*(?:0x)?([0-9a-fA-F]*)\b"):
        return Option("unknown", (number(found[1]), _hex(s, found[2])))
    if found := s.match(r"(\d+)\s*(?:,?\s*0x([0-9a-fA-F]*))?"):
        return Option("unknown", (int(found[1]), _hex(s, found[2] or "")))
    if found := s.peek(r"([A-Za-z_][\w-]*)"):
        raise Unsupported(f"the TCP option {found[1]}", s.line())
    return s.error("a TCP option")


def _accecn(s: Scanner) -> tuple[int, tuple[int, ...]]:
    """The counters of accurate ECN in the order of the text, which tells the kind: the option's number and its values."""
    names, values = [], []
    while found := s.match(r"(e0b|e1b|ceb)\b\s*=?\s*(\d+)"):
        names.append(found[1])
        values.append(int(found[2]) & 0xFFFFFF)
    for kind, order in ACCECN_ORDERS.items():
        if tuple(names) == order[:len(names)]:
            return kind, tuple(values)
    return s.error("e1b N ceb N e0b N, or e0b N ceb N e1b N, and none to three of them")


def _hex(s: Scanner, text: str) -> bytes:
    if len(text) % 2:
        s.error("an even number of hexadecimal digits")
    return bytes.fromhex(text)


def _blocks(s: Scanner) -> tuple[tuple[int, int], ...]:
    blocks = []
    while found := s.match(r"(\d+)\s*:\s*(\d+)"):
        blocks.append((int(found[1]) & 0xFFFFFFFF, int(found[2]) & 0xFFFFFFFF))
    return tuple(blocks)


# -- UDP and ICMP ------------------------------------------------------------------------------------------

def _udp(s: Scanner, ports: tuple[int, int] | None) -> UdpPacket:
    found = s.match(r"(?:len\s*)?\(?\s*(\d+)\s*\)?")
    if not found:
        s.error("a length like (1000)")
    payload = s.string()
    return UdpPacket(int(found[1]), payload.encode("latin-1") if payload is not None else None, ports)


def _icmp(s: Scanner) -> IcmpPacket:
    found = s.match(r"[a-z_]+|\d+")
    if not found:
        s.error("an ICMP type")
    kind = found[0]
    code: str | int | None = None
    if not s.peek(r"(?:mtu|id|seq)\b"):
        found = s.match(r"[a-z_]+\b")
        if found:
            code = found[0]
    mtu, ident, quoted = 0, None, None
    while True:
        if s.word("mtu"):
            mtu = s.integer()
        elif s.word("id"):
            ident = s.integer()
        elif s.word("seq"):
            s.integer()
        elif found := s.match(rf"\[\s*{_SEQUENCE}\s*\]"):
            quoted = ("tcp", int(found[1]) & 0xFFFFFFFF, int(found[3]))
        elif found := s.match(r"\[\s*udp\s*\(\s*(\d+)\s*\)\s*\]"):
            quoted = ("udp", 0, int(found[1]))
        else:
            break
    length = 0
    if found := s.match(r"\(\s*(\d+)\s*\)"):
        length = int(found[1])
    return IcmpPacket(kind, code, mtu, ident, quoted, length)
