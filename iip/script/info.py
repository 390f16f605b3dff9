"""`tcpi_*`: what `%{ }%` blocks and TCP_INFO see of a connection, by Linux's names or FreeBSD's."""
from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from iip.errors import ConnectionGone
from iip.script.sockets import TcpSocket

if TYPE_CHECKING:
    from iip.script.runner import Runner

_CLOSED = 7
_LISTEN = 10
# the state by number of 4.4BSD
_BSD_STATE = {1: 4, 2: 2, 3: 3, 4: 6, 5: 9, 6: 10, 7: 0, 8: 5, 9: 8, 10: 1, 11: 7}
_SEGMENTS = ("snd_cwnd", "snd_ssthresh")


def info_values(runner: Runner, s: TcpSocket, prefix: str = "tcpi_") -> dict[str, Any]:
    return {prefix + name: value for name, value in _plain(runner, s).items()}


def _plain(runner: Runner, s: TcpSocket) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if s.conn is not None:
        with contextlib.suppress(ConnectionGone):
            s.last_info = asdict(s.conn.info())
    if s.last_info:
        found.update(s.last_info)
    if s.conn is None:
        found["state"] = _LISTEN if s.phase == "listening" else _CLOSED
    if runner.settings.personality == "freebsd":
        for name in _SEGMENTS:
            found[name] = found.get(name, 0) * max(found.get("snd_mss", 1), 1)
        found["state"] = _BSD_STATE.get(found.get("state", 7), 0)
    return found
