"""getsockopt and setsockopt: what the stack has, what is only remembered, and ENOPROTOOPT for the rest."""
from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iip.aio.names import Address, literal
from iip.aio.reasons import os_error
from iip.connection import Connection
from iip.errors import ConfigError, IipError
from iip.info import TcpInfo

if TYPE_CHECKING:
    from iip.socket.base import Core
    from iip.socket.stream import StreamCore

Key = tuple[int, int]

_SOL, _TCP, _IP, _IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6
_UDP_BUFFER = 212992              # bytes, Linux's default
_LINGER: Key = (_SOL, socket.SO_LINGER)
_INFO: Key = (_TCP, socket.TCP_INFO)

# attribute of a Connection, what makes its value, and what Linux says of a socket without one
_TCP_OPTIONS: dict[Key, tuple[str, Callable[[int], Any], int]] = {
    (_SOL, socket.SO_KEEPALIVE): ("keepalive", bool, 0),
    (_SOL, socket.SO_SNDBUF): ("send_buffer", int, 0),
    (_SOL, socket.SO_RCVBUF): ("receive_buffer", int, 0),
    (_IP, socket.IP_TTL): ("ttl", int, 64),
    (_IP, socket.IP_TOS): ("traffic_class", int, 0),
    (_IPV6, socket.IPV6_UNICAST_HOPS): ("ttl", int, 64),
    (_IPV6, socket.IPV6_TCLASS): ("traffic_class", int, 0),
    (_TCP, socket.TCP_NODELAY): ("nodelay", bool, 0),
    (_TCP, socket.TCP_MAXSEG): ("max_seg", int, 536),
    (_TCP, socket.TCP_KEEPIDLE): ("keepalive_idle", int, 7200),
    (_TCP, socket.TCP_KEEPINTVL): ("keepalive_interval", int, 75),
    (_TCP, socket.TCP_KEEPCNT): ("keepalive_probes", int, 9),
    (_TCP, socket.TCP_CORK): ("cork", bool, 0),
    (_TCP, socket.TCP_QUICKACK): ("quickack", bool, 1),
    (_TCP, socket.TCP_USER_TIMEOUT): ("user_timeout", lambda ms: ms / 1000, 0),
    (_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 25)): ("unsent_low", int, 0),
}
_MINIMA = {"send_buffer": 4608, "receive_buffer": 2304}   # what less is asked for becomes

# without effect here
_REMEMBERED: dict[Key, int] = {
    (_SOL, socket.SO_REUSEADDR): 0, (_SOL, socket.SO_REUSEPORT): 0, (_SOL, socket.SO_BROADCAST): 0, (_SOL, socket.SO_DEBUG): 0,
    (_SOL, socket.SO_DONTROUTE): 0, (_SOL, socket.SO_OOBINLINE): 0, (_SOL, socket.SO_PRIORITY): 0, (_SOL, socket.SO_MARK): 0,
    (_SOL, socket.SO_RCVLOWAT): 1, (_SOL, socket.SO_RCVBUF): _UDP_BUFFER, (_SOL, socket.SO_SNDBUF): _UDP_BUFFER,
    (_SOL, socket.SO_KEEPALIVE): 0, (_IPV6, socket.IPV6_V6ONLY): 0, (_TCP, socket.TCP_SYNCNT): 6,
    (_TCP, socket.TCP_DEFER_ACCEPT): 0, (_TCP, socket.TCP_LINGER2): 60,
    (_TCP, socket.TCP_WINDOW_CLAMP): 0, (_IP, socket.IP_TTL): 64, (_IP, socket.IP_TOS): 0,
    (_IP, getattr(socket, "IP_RECVTOS", 13)): 0, (_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)): 0,
    (_IPV6, socket.IPV6_UNICAST_HOPS): 64, (_IPV6, socket.IPV6_TCLASS): 0, (_IP, socket.IP_MULTICAST_TTL): 1,
    (_IP, socket.IP_MULTICAST_LOOP): 1, (_IPV6, socket.IPV6_MULTICAST_HOPS): 1, (_IPV6, socket.IPV6_MULTICAST_LOOP): 1,
    (_IP, socket.IP_MULTICAST_IF): 0, (_IPV6, socket.IPV6_MULTICAST_IF): 0,
}
_GROUPS = {(_IP, socket.IP_ADD_MEMBERSHIP): True, (_IP, socket.IP_DROP_MEMBERSHIP): False,
           (_IPV6, socket.IPV6_JOIN_GROUP): True, (_IPV6, socket.IPV6_LEAVE_GROUP): False}


# -- setting -----------------------------------------------------------------------------------------------
def set_option(core: Core, level: int, option: int, value: Any) -> None:
    key = (level, option)
    tcp = core.kind == socket.SOCK_STREAM
    if key in _GROUPS:
        _membership(core, _group(value), _GROUPS[key])
    elif key == _LINGER:
        on, seconds = struct.unpack("ii", value)
        _set(core, key, (bool(on), seconds))
    elif key == (_TCP, socket.TCP_CONGESTION) and tcp:
        name = bytes(value).rstrip(b"\0").decode()
        _set(core, key, name)
    elif tcp and key in _TCP_OPTIONS:
        number = _number(value)
        if number < 0 or (key == (_TCP, socket.TCP_MAXSEG) and number > 32767):
            raise os_error(errno.EINVAL)
        name, make, _default = _TCP_OPTIONS[key]
        _set(core, key, make(max(number, _MINIMA.get(name, 0))))
    elif key in _REMEMBERED and (level != _TCP or tcp):
        core.options[key] = _number(value)
    else:
        raise os_error(errno.ENOPROTOOPT)


def _set(core: Core, key: Key, value: Any) -> None:
    conn = core.conn
    if conn is not None and not conn.closed:
        try:
            _give(conn, key, value)
        except (IipError, ValueError) as error:
            raise os_error(errno.ENOENT if key == (_TCP, socket.TCP_CONGESTION) else errno.EINVAL, str(error)) from None
        core.stack.wake()
    core.options[key] = value


def _give(conn: Connection, key: Key, value: Any) -> None:
    if key == _LINGER:
        conn.linger = value[1] if value[0] else None
    elif key == (_TCP, socket.TCP_CONGESTION):
        conn.congestion = value
    else:
        setattr(conn, _TCP_OPTIONS[key][0], value)


def apply(core: StreamCore) -> None:
    """What was set before there was a connection."""
    for key, value in core.options.items():
        if core.conn is not None and (key in _TCP_OPTIONS or key in (_LINGER, (_TCP, socket.TCP_CONGESTION))):
            _give(core.conn, key, value)


def _number(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    raw = bytes(value)
    if len(raw) < 4:
        raise os_error(errno.EINVAL)
    return int(struct.unpack_from("i", raw)[0])


def _group(value: Any) -> Address:
    raw = bytes(value)
    if len(raw) < 8:
        raise os_error(errno.EINVAL)
    text = socket.inet_ntop(socket.AF_INET6, raw[:16]) if len(raw) >= 20 else socket.inet_ntop(socket.AF_INET, raw[:4])
    address = literal(text)
    assert address is not None
    return address


def _membership(core: Core, group: Address, join: bool) -> None:
    try:
        (core.stack.engine.join if join else core.stack.engine.leave)(group)
    except ConfigError as error:
        raise os_error(errno.EINVAL, str(error)) from None
    core.stack.wake()


# -- getting -----------------------------------------------------------------------------------------------
def get_option(core: Core, level: int, option: int, size: int) -> int | bytes:
    value = _get(core, (level, option))
    if size == 0:
        if isinstance(value, bytes):
            return int(struct.unpack_from("i", value.ljust(4, b"\0"))[0])
        return value
    raw = value if isinstance(value, bytes) else struct.pack("i", value)
    return raw[:size]


def _get(core: Core, key: Key) -> int | bytes:
    tcp = core.kind == socket.SOCK_STREAM
    if key == (_SOL, socket.SO_ERROR):
        error, core.error = core.error, None
        core.changed()
        return error.errno or 0 if error is not None else 0
    if key == (_SOL, socket.SO_TYPE):
        return core.kind
    if key == (_SOL, socket.SO_DOMAIN):
        return core.family
    if key == (_SOL, socket.SO_PROTOCOL):
        return core.proto
    if key == (_SOL, socket.SO_ACCEPTCONN):
        return int(getattr(core, "backlog", 0) > 0)
    if key == _LINGER:
        on, seconds = core.options.get(key, (False, 0))
        return struct.pack("ii", on, seconds)
    if tcp and key == _INFO:
        return _tcp_info(core)
    if tcp and key == (_TCP, socket.TCP_CONGESTION):
        return _congestion(core).encode().ljust(16, b"\0")
    if tcp and key in _TCP_OPTIONS:
        return _tcp_option(core, key)
    if key in _REMEMBERED and (key[0] != _TCP or tcp):
        return int(core.options.get(key, _REMEMBERED[key]))
    raise os_error(errno.ENOPROTOOPT)


def _live(core: Core) -> Connection | None:
    conn = core.conn
    return conn if conn is not None and not conn.closed else None


def _tcp_option(core: Core, key: Key) -> int:
    name, _make, default = _TCP_OPTIONS[key]
    conn = _live(core)
    if conn is not None:
        value = getattr(conn, name)
        if name == "max_seg":
            value = conn.mss
    elif key in core.options:
        value = core.options[key]
    else:
        value = getattr(core.stack.engine.config, name) if name in _MINIMA else default
    return round(value * 1000) if name == "user_timeout" else int(value)


def _congestion(core: Core) -> str:
    conn = _live(core)
    algorithm = conn.congestion if conn is not None else core.options.get(
        (_TCP, socket.TCP_CONGESTION), core.stack.engine.config.congestion)
    return algorithm if isinstance(algorithm, str) else getattr(algorithm, "__name__", type(algorithm).__name__)[:15]


# struct tcp_info of <linux/tcp.h>: the fields behind the first eight bytes
_WORDS = ("rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets", "last_data_sent", "last_ack_sent",
          "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh", "rtt", "rttvar", "snd_ssthresh", "snd_cwnd", "advmss",
          "reordering", "rcv_rtt", "rcv_space", "total_retrans")
_LONG = ("pacing_rate", "max_pacing_rate", "bytes_acked", "bytes_received")
_MORE = ("segs_out", "segs_in", "notsent_bytes", "min_rtt", "data_segs_in", "data_segs_out")
_LONG2 = ("delivery_rate", "busy_time", "rwnd_limited", "sndbuf_limited")
_LAST = ("delivered", "delivered_ce")
_LONG3 = ("bytes_sent", "bytes_retrans")
_END = ("dsack_dups", "reord_seen", "rcv_ooopack", "snd_wnd")
_FORMAT = f"=8B{len(_WORDS)}I{len(_LONG)}Q{len(_MORE)}I{len(_LONG2)}Q{len(_LAST)}I{len(_LONG3)}Q{len(_END)}I"
_CLOSE, _LISTEN = 7, 10           # Linux's numbers of states


def _tcp_info(core: Core) -> bytes:
    conn = _live(core)
    if conn is None:
        return bytes([_LISTEN if getattr(core, "backlog", 0) else _CLOSE]).ljust(struct.calcsize(_FORMAT), b"\0")
    info: TcpInfo = conn.info()
    first = (info.state, info.ca_state, min(info.retransmits, 255), min(info.probes, 255), min(info.backoff, 255), info.options,
             info.snd_wscale | info.rcv_wscale << 4, int(info.delivery_rate_app_limited))
    words = [min(int(getattr(info, name)), 0xFFFFFFFF) for name in _WORDS]
    more = [[int(getattr(info, name)) for name in names] for names in (_LONG, _MORE, _LONG2, _LAST, _LONG3, _END)]
    return struct.pack(_FORMAT, *first, *words, *(value for part in more for value in part))
