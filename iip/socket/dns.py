"""DNS through the stack for blocking programs, by dnspython's messages (``pip install 'iip[dns]'``)."""
from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, literal
from iip.aio.resolver import temporary_failure
from iip.errors import ConfigError

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rdatatype
except ImportError:
    raise ConfigError("nameservers: names are resolved by dnspython, which is not installed; pip install 'iip[dns]'") from None

if TYPE_CHECKING:
    from iip.socket.stack import Stack

_RECORDS = ((socket.AF_INET6, "AAAA"), (socket.AF_INET, "A"))
_PORT = 53
_TRIES = 2                        # of each server,
_WAIT = 2.0                       # for so many seconds
_KEPT = 10_000                    # answers


class Dns:
    """The addresses of names, asked of `nameservers` in turn and kept as long as they say."""

    def __init__(self, stack: Stack, nameservers: Sequence[str]) -> None:
        for server in nameservers:
            if literal(server) is None:
                raise ConfigError(f"nameservers: {server!r} is not an address")
        self._stack, self._servers = stack, list(nameservers)
        self._kept: dict[tuple[str, str], tuple[float, list[Address]]] = {}
        self._lock = threading.Lock()

    def addresses(self, host: str, family: int) -> list[Address]:
        """All of a name; none if it does not exist. Raises `socket.gaierror` when no server answers."""
        found: list[Address] = []
        failed = False
        for version, kind in _RECORDS:
            if family in (0, version):
                answer = self._lookup(host.rstrip(".").lower(), kind)
                failed |= answer is None
                found += answer or []
        if failed and not found:
            raise temporary_failure()
        return found

    def _lookup(self, host: str, kind: str) -> list[Address] | None:
        with self._lock:
            until, known = self._kept.get((host, kind), (0.0, []))
        if until > time.monotonic():
            return known
        try:
            query = dns.message.make_query(host, kind)
        except (dns.exception.DNSException, UnicodeError):
            return []             # such a name cannot be
        answer = self._ask(query)
        if answer is None or answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return None
        wanted = dns.rdatatype.from_text(kind)
        records = [record for record in answer.answer if record.rdtype == wanted]
        found = [ip_address(item.address) for record in records for item in record]
        ttl = min([record.ttl for record in answer.answer], default=0)
        with self._lock:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[host, kind] = time.monotonic() + ttl, found
        return found

    def _ask(self, query: Any) -> Any:
        for _ in range(_TRIES):
            for server in self._servers:
                try:
                    answer = self._udp(query, server)
                    if answer is not None and answer.flags & dns.flags.TC:
                        answer = self._tcp(query, server)
                    if answer is not None:
                        return answer
                except (OSError, dns.exception.DNSException):
                    continue
        return None

    def _udp(self, query: Any, server: str) -> Any:
        end = time.monotonic() + _WAIT
        with self._stack.socket(_family(server), socket.SOCK_DGRAM) as sock:
            sock.connect((server, _PORT))
            sock.send(query.to_wire())
            while (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                answer = _parsed(sock.recv(65535), query)
                if answer is not None:
                    return answer
        return None

    def _tcp(self, query: Any, server: str) -> Any:
        wire = query.to_wire()
        with self._stack.create_connection((server, _PORT), timeout=_WAIT) as sock, sock.makefile("rb") as file:
            sock.sendall(len(wire).to_bytes(2, "big") + wire)
            return _parsed(file.read(int.from_bytes(file.read(2), "big")), query)


def _parsed(wire: bytes, query: Any) -> Any:
    """The answer if it is one to `query`, else None."""
    try:
        answer = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        return None
    return answer if query.is_response(answer) else None


def _family(server: str) -> int:
    return socket.AF_INET6 if ":" in server else socket.AF_INET
