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
    found.update(_traffic(runner, s))
    if "data_segs_out" in found and "unacked" in found:
        # the SYN counts, too
        found["delivered"] = 1 + found["data_segs_out"] - found["total_retrans"] - found["unacked"] + found["sacked"]
    if runner.settings.personality == "freebsd":
        for name in _SEGMENTS:
            found[name] = found.get(name, 0) * max(found.get("snd_mss", 1), 1)
        found["state"] = _BSD_STATE.get(found.get("state", 7), 0)
    return found


def _traffic(runner: Runner, s: TcpSocket) -> dict[str, int]:
    if s.local is None or s.remote is None:
        return {}
    t = runner.stack.traffic_of(s.local, s.remote)
    if t is None:
        return {}
    now = runner.stack.now
    return {
        "segs_out": t.segs_out, "segs_in": t.segs_in, "data_segs_out": t.data_segs_out, "data_segs_in": t.data_segs_in,
        "bytes_sent": t.bytes_sent, "bytes_retrans": t.bytes_retrans, "rcv_mss": max(t.rcv_mss, 536),
        "last_data_sent": (now - t.last_data_sent) // 1000, "last_data_recv": (now - t.last_data_recv) // 1000,
        "last_ack_recv": (now - t.last_ack_recv) // 1000, "min_rtt": _min_rtt(s), "last_ack_sent": 0,
    }


def _min_rtt(s: TcpSocket) -> int:
    return 0 if s.last_info is None else int(s.last_info.get("min_rtt", s.last_info.get("rtt", 0)))
