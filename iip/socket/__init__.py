"""The standard library's module `socket`, on stacks of iip: ``use(Stack(...))``, and go on as before.

Constants, errors and whatever has no network in it are the standard module's.
"""
from __future__ import annotations

import socket as _standard
from socket import *  # noqa: F403
from typing import Any

from iip.aio.names import ANY_PORT
from iip.socket.functions import (
    close,
    create_connection,
    create_server,
    fromfd,
    getaddrinfo,
    getfqdn,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
    has_dualstack_ipv6,
    if_indextoname,
    if_nameindex,
    if_nametoindex,
    installed,
    use,
)
from iip.socket.sock import default_stack, socket
from iip.socket.stack import Stack, Tunnel
from iip.socket.worker import Worker

SocketType = socket

__all__ = [
    "ANY_PORT", "SocketType", "Stack", "Tunnel", "Worker", "close", "create_connection", "create_server", "default_stack", "fromfd",
    "getaddrinfo", "getfqdn", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo", "has_dualstack_ipv6",
    "if_indextoname", "if_nameindex", "if_nametoindex", "installed", "socket", "use"]
__all__ += _standard.__all__


def __getattr__(name: str) -> Any:
    return getattr(_standard, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_standard)})
