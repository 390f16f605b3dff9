"""setsockopt and getsockopt by name: what the stack has, what only has to be remembered, and what it lacks."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iip.script.error_queue import OPT_ID
from iip.script.errors import CallFailed, Unsupported
from iip.script.info import info_values
from iip.script.sockets import AT_CONNECTION, Socket, TcpSocket, UdpSocket
from iip.script.syntax import CallEvent, Struct, Word

if TYPE_CHECKING:
    from iip.script.runner import Runner

# remembered, and without effect on what a script can see
REMEMBERED = frozenset({
    "SO_REUSEADDR", "SO_REUSEPORT", "SO_PRIORITY", "SO_MARK", "SO_BROADCAST", "SO_DEBUG", "SO_INCOMING_CPU", "SO_NO_CHECK",
    "SO_DONTROUTE", "SO_NOSIGPIPE", "IP_FREEBIND", "IP_BIND_ADDRESS_NO_PORT", "IPV6_V6ONLY", "SO_BUSY_POLL", "TCP_LOG",
    "IPV6_AUTOFLOWLABEL", "SO_REUSEPORT_LB", "SO_OOBINLINE"})
TIMES = ("SO_RCVTIMEO", "SO_SNDTIMEO")
LEVELS = {"SOL_SOCKET": ("SO_",), "SOL_TCP": ("TCP_",), "IPPROTO_TCP": ("TCP_",), "SOL_IP": ("IP_",), "IPPROTO_IP": ("IP_",),
          "SOL_IPV6": ("IPV6_",), "IPPROTO_IPV6": ("IPV6_",), "SOL_UDP": ("UDP_",), "IPPROTO_UDP": ("UDP_",)}
# settings of the whole stack that an option of one socket changes
AT_STACK: dict[str, tuple[str, float, int, int]] = {
    "TCP_SYNCNT": ("syn_retries", 1, 1, 127), "TCP_LINGER2": ("fin_wait2", 1, -(1 << 31), 1 << 31),
    "TCP_RTO_MAX_MS": ("rto_max", 0.001, 1000, 120000), "TCP_RTO_MIN_US": ("rto_min", 1e-6, 1, 1 << 31),
    "TCP_DELACK_MAX_US": ("delayed_ack_max", 1e-6, 1, 1 << 31)}
# what Linux says where nothing was set
DEFAULTS = {"SO_RCVLOWAT": 1, "IP_TTL": 64, "IPV6_UNICAST_HOPS": 64, "TCP_QUICKACK": 1, "TCP_KEEPIDLE": 7200,
            "TCP_KEEPINTVL": 75, "TCP_KEEPCNT": 9, "IP_MTU_DISCOVER": 1, "IPV6_MTU_DISCOVER": 1}


class SocketOptions:
    def __init__(self, runner: Runner):
        self.runner = runner
        self.symbols = runner.symbols
        self.setters: dict[str, Callable[[Socket, Any], None]] = {
            "SO_RCVBUF": self._set_rcvbuf, "SO_RCVBUFFORCE": self._set_rcvbuf, "SO_SNDBUF": self._set_sndbuf,
            "SO_SNDBUFFORCE": self._set_sndbuf, "SO_LINGER": self._set_linger, "TCP_MAXSEG": self._set_maxseg,
            "TCP_CONGESTION": self._set_congestion, "SO_RCVLOWAT": self._set_rcvlowat,
            "TCP_DELACK": self._set_delack, "IP_MTU_DISCOVER": self._set_discover,
            "IPV6_MTU_DISCOVER": self._set_discover, "IP_RECVERR": self._keep("IP_RECVERR"),
            "IPV6_RECVERR": self._keep("IPV6_RECVERR"), "UDP_CORK": self._set_udp_cork,
            "TCP_FASTOPEN": self._set_fastopen, "TCP_FASTOPEN_CONNECT": self._set_fastopen_connect,
            "SO_ZEROCOPY": self._set_zerocopy, "SO_TIMESTAMPING": self._set_timestamping, "TCP_INQ": self._set_inq,
            "TCP_FUNCTION_BLK": self._set_functions, "TCP_WINDOW_CLAMP": self._set_clamp,
        }

    # -- names ---------------------------------------------------------------------------------------------

    def _name(self, args: list[Any], event: CallEvent) -> str:
        word = event.arguments[2]
        if isinstance(word, Word) and word.name not in self.runner.value.defines:
            return word.name
        level = event.arguments[1]
        prefixes = LEVELS.get(level.name, ()) if isinstance(level, Word) else ()
        for prefix in prefixes or {6: ("TCP_",), 1: ("SO_",), 0xFFFF: ("SO_",), 0: ("IP_",), 41: ("IPV6_",),
                                   17: ("UDP_",)}.get(args[1], ()):
            for name, value in self.symbols.items():
                if name.startswith(prefix) and value == args[2]:
                    return name
        raise Unsupported(f"the socket option {args[2]} of level {args[1]}")

    # -- setting -------------------------------------------------------------------------------------------

    def set(self, s: Socket, args: list[Any], event: CallEvent) -> int:
        name = self._name(args, event)
        value = args[3]
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if name.startswith("TCP_") and not isinstance(s, TcpSocket):
            raise CallFailed("ENOPROTOOPT")
        if name in self.setters:
            self.setters[name](s, value)
        elif name in AT_CONNECTION:
            self._set_at_connection(name, s, value)
        elif name in AT_STACK:
            self._set_stack(name, s, value)
        elif name in TIMES:
            s.options[name] = self._timeval(value)
        elif name in REMEMBERED:
            s.options[name] = value
        else:
            raise Unsupported(f"the socket option {name}")
        return 0

    def _timeval(self, value: Any) -> int:
        if not isinstance(value, Struct):
            raise CallFailed("EINVAL")
        return int(value.get("tv_sec", 0, default=0)) * 1_000_000 + int(value.get("tv_usec", 1, default=0))

    def _set_stack(self, name: str, s: Socket, value: Any) -> None:
        setting, unit, low, high = AT_STACK[name]
        if not low <= value <= high:
            raise CallFailed("EINVAL")
        s.options[name] = value
        if name == "TCP_LINGER2" and value <= 0:
            value = 0 if value < 0 else 60
        self.runner.reconfigure(**{setting: type(getattr(self.runner.stack.engine.config, setting))(value * unit)})
        s.apply_options()

    def _set_at_connection(self, name: str, s: Socket, value: Any) -> None:
        _, unit, low, high = AT_CONNECTION[name]
        if not isinstance(value, int) or not low <= value <= high:
            raise CallFailed("EINVAL")
        s.options[name] = value if unit else int(bool(value))
        if isinstance(s, TcpSocket):
            s.apply_option(name)

    def _set_rcvbuf(self, s: Socket, value: Any) -> None:
        """Linux doubles the wish, for its own overhead, and offers half of that."""
        linux = self.runner.settings.personality == "linux"
        whole = max(2 * value, 2304) if linux else value
        s.options["SO_RCVBUF"] = whole
        if isinstance(s, TcpSocket):
            s.receive_space = self._space(whole)
            s.apply_options()
            if s.conn is None:        # what a SYN offers depends on it
                self.runner.receive_space(s.receive_space, fixed=linux)

    def _space(self, buffer: int) -> int:
        """The window that a buffer allows; small ones in whole segments, as a SYN offers it."""
        space = max(self.runner.settings.window_of(buffer), 1)
        return space - space % 1460 if 1460 < space < 65536 and self.runner.settings.personality == "linux" else space

    def _set_sndbuf(self, s: Socket, value: Any) -> None:
        linux = self.runner.settings.personality == "linux"
        s.options["SO_SNDBUF"] = max(2 * value, 4608) if linux else value
        s.apply_options()

    def _set_linger(self, s: Socket, value: Any) -> None:
        if not isinstance(value, Struct):
            raise CallFailed("EINVAL")
        s.options["SO_LINGER"] = (int(value.get("onoff", "l_onoff", 0, default=0)), int(value.get("linger", "l_linger", 1,
                                                                                                default=0)))

    def _set_maxseg(self, s: Socket, value: Any) -> None:
        if not 88 <= value <= 32767 and self.runner.settings.personality == "linux":
            raise CallFailed("EINVAL")
        s.options["TCP_MAXSEG"] = value
        if isinstance(s, TcpSocket) and s.conn is not None:
            s.conn.max_seg = value
        else:
            self.runner.reconfigure(mss=min(value, self.runner.stack.engine.config.mtu - 40))

    def _set_congestion(self, s: Socket, value: Any) -> None:
        if not isinstance(value, str):
            raise CallFailed("EINVAL")
        name = self.runner.congestion(value)
        s.options["TCP_CONGESTION"] = value
        if isinstance(s, TcpSocket) and s.conn is not None:
            s.conn.congestion = name
        else:
            self.runner.reconfigure(congestion=name)

    def _set_functions(self, s: Socket, value: Any) -> None:
        name = value.get("function_set_name", 0, default="") if isinstance(value, Struct) else value
        if name != "freebsd":
            raise Unsupported(f"the TCP stack {name}")
        s.options["TCP_FUNCTION_BLK"] = name

    def _set_fastopen(self, s: Socket, value: Any) -> None:
        if isinstance(value, Struct):
            value = value.get("enable", 0, default=1)
        s.options["TCP_FASTOPEN"] = value

    def _set_fastopen_connect(self, s: Socket, value: Any) -> None:
        raise Unsupported("the socket option TCP_FASTOPEN_CONNECT")

    def _set_zerocopy(self, s: Socket, value: Any) -> None:
        if value not in (0, 1):
            raise CallFailed("EINVAL")
        if not isinstance(s, TcpSocket):
            raise Unsupported("SO_ZEROCOPY of UDP sockets")
        s.options["SO_ZEROCOPY"] = value

    def _set_timestamping(self, s: Socket, value: Any) -> None:
        if not isinstance(s, TcpSocket):
            raise Unsupported("SO_TIMESTAMPING of UDP sockets")
        if isinstance(value, Struct):
            value = value.get("flags", 0, default=0)
        if value & OPT_ID and not s.options.get("SO_TIMESTAMPING", 0) & OPT_ID:
            if s.phase in ("new", "listening"):
                raise CallFailed("EINVAL")
            s.error_queue.base = s.error_queue.written
        s.options["SO_TIMESTAMPING"] = value

    def _set_inq(self, s: Socket, value: Any) -> None:
        if value not in (0, 1):
            raise CallFailed("EINVAL")
        s.options["TCP_INQ"] = value

    def _set_rcvlowat(self, s: Socket, value: Any) -> None:
        s.options["SO_RCVLOWAT"] = max(1, value)

    def _set_delack(self, s: Socket, value: Any) -> None:
        self.runner.reconfigure(delayed_ack=0.0 if value else 0.04)

    def _set_clamp(self, s: Socket, value: Any) -> None:
        raise Unsupported("the socket option TCP_WINDOW_CLAMP")

    def _set_discover(self, s: Socket, value: Any) -> None:
        if isinstance(s, TcpSocket) and value not in (1, 2):
            raise Unsupported("TCP without path MTU discovery")
        s.options["IP_MTU_DISCOVER"] = value

    def _keep(self, name: str) -> Callable[[Socket, Any], None]:
        def keep(s: Socket, value: Any) -> None:
            s.options[name] = value
        return keep

    def _set_udp_cork(self, s: Socket, value: Any) -> None:
        s.options["UDP_CORK"] = value
        if not value and isinstance(s, UdpSocket):
            s.flush()

    # -- getting -------------------------------------------------------------------------------------------

    def get(self, s: Socket, args: list[Any], event: CallEvent, compare: Callable[[str, Any, Any], None]) -> int:
        name = self._name(args, event)
        expected = args[3]
        if isinstance(expected, list) and len(expected) == 1:
            expected = expected[0]
        actual = self._value(name, s)
        if name == "SO_LINGER" and isinstance(expected, Struct):
            actual = {"onoff": actual[0], "linger": actual[1]}
        compare(name, expected, actual)
        return 0

    def _value(self, name: str, s: Socket) -> Any:
        if name == "SO_ERROR":
            error = s.take_error()
            return self.runner.errno_number(error) if error else 0
        if name == "SO_TYPE":
            return s.type
        if name == "SO_PROTOCOL":
            return s.protocol
        if name == "SO_DOMAIN":
            return s.family
        if name == "SO_ACCEPTCONN":
            return int(isinstance(s, TcpSocket) and s.phase == "listening")
        if name == "TCP_INFO" and isinstance(s, TcpSocket):
            return info_values(self.runner, s, prefix="tcpi_")
        if name == "TCP_MAXSEG" and isinstance(s, TcpSocket):
            return s.conn.mss if s.conn is not None and s.conn.info().state == 1 else s.options.get("TCP_MAXSEG", 536)
        if name == "TCP_CONGESTION":
            return s.options.get(name, self.runner.congestion_name())
        if name == "SO_LINGER":
            return s.options.get(name, (0, 0))
        if name in AT_STACK and name not in s.options:
            setting, unit, _, _ = AT_STACK[name]
            return round(getattr(self.runner.stack.engine.config, setting) / unit)
        if name == "SO_RCVBUF":
            return s.options.get(name, self.runner.settings.rmem[1])
        if name == "SO_SNDBUF":
            return s.options.get(name, self.runner.settings.wmem[1])
        if name in s.options:
            return s.options[name]
        if name in self.setters or name in AT_CONNECTION or name in REMEMBERED or name in TIMES:
            return DEFAULTS.get(name, 0)
        raise Unsupported(f"the socket option {name}")


