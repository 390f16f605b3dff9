"""Names to addresses for blocking programs: literals, the hosts file, and DNS asked through the stack."""
from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iip.aio.resolver import AddrInfo, Names, Query, ordered

if TYPE_CHECKING:
    from iip.socket.dns import Dns
    from iip.socket.stack import Stack


class Resolver(Names):
    """`getaddrinfo` of one stack, from any thread."""

    def __init__(self, stack: Stack, nameservers: Sequence[str], hosts: str) -> None:
        super().__init__(hosts)
        self._stack = stack
        self._lock = threading.Lock()
        self._dns: Dns | None = None
        if nameservers:
            from iip.socket.dns import Dns
            self._dns = Dns(stack, nameservers)

    def getaddrinfo(self, host: str | bytes | None, port: str | bytes | int | None, *, family: int = 0, type: int = 0,
                    proto: int = 0, flags: int = 0) -> list[AddrInfo]:
        """As `socket.getaddrinfo`; raises `socket.gaierror`."""
        query = Query(host, port, family, type, proto, flags)
        with self._lock:
            found = self.known(query)
        if found is None:
            found = self._dns.addresses(query.host or "", family) if self._dns is not None else []
        return query.answer(ordered(found, self._stack.engine.config))

    def gethostbyaddr(self, address: str) -> tuple[str, list[str], list[str]]:
        """By the hosts file."""
        with self._lock:
            names = [name for name, found in self._file().items() if address in map(str, found)]
        if not names:
            raise socket.herror(1, "Unknown host")
        return names[0], names[1:], [address]
