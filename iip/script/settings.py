"""What a script runs with: addresses, tolerances and the stack's settings, from options, commands and a personality."""
from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import iip
from iip.script.errors import ScriptSyntaxError, Unsupported
from iip.script.syntax import CallEvent, Script

VERSIONS = ("4", "6", "4-mapped")
PERSONALITIES = ("linux", "freebsd")
_DEFAULTS: dict[int, dict[str, Any]] = {
    4: {"local": "192.168.0.1", "remote": "192.0.2.1", "gateway": "192.168.0.2", "prefix": 16},
    6: {"local": "fd3d:fa7b:d17d::1", "remote": "fd3d:fa7b:d17d:8888::1", "gateway": "fd3d:fa7b:d17d::2", "prefix": 48},
}
_VERSION_NAMES = {"ipv4": "4", "ipv6": "6", "ipv4-mapped-ipv6": "4-mapped", "ipv4_mapped_ipv6": "4-mapped", "4": "4",
                  "6": "6"}
# options of the original that say how its test bed is built, of which there is none here
_OF_THE_TEST_BED = frozenset({
    "speed", "verbose", "verbose_config", "dry_run", "so_filename", "so_flags", "wire_client", "wire_server",
    "wire_client_dev", "wire_server_dev", "wire_server_ip", "wire_server_port", "tun_dev", "persistent_tun_dev",
    "persistent_tun_device", "no_cleanup", "code_command", "code_format", "code_sockopt", "debug", "socket_dev",
    "send_omit_free", "is_anyip", "mss", "allow_non_fatal"})

# what a fresh Linux has: net.ipv4.tcp_rmem and tcp_wmem
LINUX_RMEM = (4096, 131072, 6291456)
LINUX_WMEM = (4096, 16384, 4194304)
WHOLE_SEGMENTS = 65700            # 45 of 1460 bytes: the least that offers 65535
FREEBSD_SPACE = (65536, 32768)    # recvspace, sendspace
FREEBSD_MAXIMUM = 2097152         # kern.ipc.maxsockbuf


def _names(call: CallEvent, *names: str) -> bool:
    """Whether a call has one of these names among its arguments."""
    return any(name in repr(call.arguments).replace("(", " ").replace(",", " ").replace(")", " ").split() for name in names)


@dataclass
class Settings:
    personality: str = "linux"
    version: str = "4"
    mtu: int | None = None
    tolerance: int = 4000                     # µs
    tolerance_percent: float = 0.0
    addresses: dict[str, str] = field(default_factory=dict)
    netmask: str | None = None
    bind_port: int = 8080
    connect_port: int = 8080
    non_fatal: frozenset[str] = frozenset()
    ts_tick: int = 0                          # µs; 0: timestamps are not compared
    defines: dict[str, Any] = field(default_factory=dict)
    init_scripts: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)      # settings of iip.Config
    rmem: tuple[int, int, int] = LINUX_RMEM
    wmem: tuple[int, int, int] = LINUX_WMEM
    adv_win_scale: int = 1
    tfo: int = 1                              # net.ipv4.tcp_fastopen: 1 client, 2 server, 0x400: every listener
    ignored: list[str] = field(default_factory=list)          # what was asked for and makes no difference here

    def __post_init__(self) -> None:
        if self.personality not in PERSONALITIES:
            raise ValueError(f"personality={self.personality!r}: choose linux or freebsd")
        if self.version not in VERSIONS:
            raise ValueError(f"version={self.version!r}: choose 4, 6 or 4-mapped")
        if self.personality == "freebsd":
            self.rmem = (4096, FREEBSD_SPACE[0], FREEBSD_MAXIMUM)
            self.wmem = (4096, FREEBSD_SPACE[1], FREEBSD_MAXIMUM)

    @property
    def wire_version(self) -> int:
        return 6 if self.version == "6" else 4

    def address(self, name: str) -> Any:
        """`local`, `remote` or `gateway`."""
        text = self.addresses.get(name, _DEFAULTS[self.wire_version][name])
        return ipaddress.ip_address(text)

    @property
    def prefix(self) -> int:
        if self.netmask and self.wire_version == 4:
            return ipaddress.ip_network(f"0.0.0.0/{self.netmask}").prefixlen
        return int(_DEFAULTS[self.wire_version]["prefix"])

    # -- options of the script and of the command line -------------------------------------------------------

    def option(self, name: str, value: str | None, line: int = 0) -> None:
        name = name.replace("-", "_")
        try:
            self._option(name, value or "", line)
        except ValueError as error:
            raise ScriptSyntaxError(f"--{name}={value}: {error}", line) from None

    def _option(self, name: str, value: str, line: int) -> None:
        if name == "ip_version":
            if value not in _VERSION_NAMES:
                raise ValueError("use ipv4, ipv6 or ipv4-mapped-ipv6")
            self.version = _VERSION_NAMES[value]
        elif name == "mtu":
            self.mtu = int(value)
        elif name == "tolerance_usecs":
            self.tolerance = int(value)
        elif name == "tolerance_percent":
            self.tolerance_percent = float(value)
        elif name in ("local_ip", "remote_ip", "gateway_ip", "local_linklocal_ip", "gateway_linklocal_ip"):
            ipaddress.ip_address(value)
            self.addresses[name.rsplit("_", 1)[0]] = value
        elif name in ("netmask_ip", "prefix_len"):
            self.netmask = value
        elif name in ("bind_port", "connect_port"):
            setattr(self, name, int(value))
        elif name == "non_fatal":
            self.non_fatal = frozenset(value.split(","))
        elif name == "tcp_ts_tick_usecs":
            self.ts_tick = int(value)
        elif name in ("define", "D"):
            key, _, text = value.partition("=")
            self.defines[key] = int(text, 0) if text.lstrip("-").replace("x", "").isalnum() and text[:1].isdigit() else text
        elif name == "init_scripts":
            self.init_scripts += value.split(",")
        elif name in _OF_THE_TEST_BED:
            self.ignored.append(f"--{name}")
        else:
            raise Unsupported(f"the option --{name}", line)

    def fastopen(self, script: Script) -> None:
        """Fast Open as the script will ask for it: the stack has to know from the start."""
        calls = [e.body for e in script.events if isinstance(e.body, CallEvent)]
        server = self.tfo & 2 and (self.tfo & 0x400 or any(_names(call, "TCP_FASTOPEN") for call in calls))
        client = self.tfo & 1 and any(_names(call, "MSG_FASTOPEN", "TCP_FASTOPEN_CONNECT") for call in calls)
        if server or client:
            self.config["fastopen"] = "both" if server and client else "server" if server else "client"

    # -- the engine ----------------------------------------------------------------------------------------

    @property
    def full_space(self) -> int:
        """What a receive buffer can offer as a window: half of it is for the packets' own overhead on Linux."""
        return self.window_of(self.rmem[1])

    def window_of(self, buffer: int) -> int:
        if self.personality == "freebsd":
            return min(buffer, 65535 << self.wscale) if buffer > 65535 else min(buffer, 65535)
        return buffer >> 1 if self.adv_win_scale == 1 else buffer - (buffer >> self.adv_win_scale) \
            if self.adv_win_scale > 0 else buffer >> -self.adv_win_scale

    @property
    def wscale(self) -> int:
        """The window scale for the largest buffer that automatic tuning may reach."""
        if self.personality == "freebsd":
            scale = 0
            while scale < 14 and 65535 << scale < self.rmem[2]:
                scale += 1
            return scale
        space = max(self.full_space, self.rmem[2])
        return min(max(space.bit_length() - 1 - 15, 0), 14)

    def buffers(self) -> dict[str, int]:
        """Linux begins with the window of a SYN, whatever the buffer: 65535, or less in whole segments."""
        large = self.personality == "linux" and self.full_space > 65536
        first = WHOLE_SEGMENTS if large else self.full_space
        return {"receive_buffer": max(2048, first), "receive_buffer_max": max(2048, first, self.rmem[2]),
                "send_buffer": max(2048, self.wmem[2]), "send_buffer_max": max(2048, self.wmem[2])}

    def engine_config(self) -> iip.Config:
        settings: dict[str, Any] = {
            "addresses": (f"{self.address('local')}/{self.prefix}",), "medium": "ip",
            "mtu": self.mtu or 1500, "pool_packets": 8192, "max_connections": 256, "ports": (32768, 60999),
            "link_local": False,
        }
        if self.personality == "freebsd":
            settings["option_order"] = "bsd"
            settings["quick_acks"] = 0
        settings["gateway6" if self.wire_version == 6 else "gateway"] = str(self.address("gateway"))
        size = max(2048, ((self.mtu or 1500) + 250) // 64 * 64 + 64)
        settings["packet_size"] = min(size, 65536)
        settings.update(self.buffers())
        settings.update(self.config)
        return iip.Config(**settings)
