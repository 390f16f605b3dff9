"""The settings of an engine: run-time values with units and ranges, checked on construction."""
from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, TypeVar

from iip.errors import ConfigError

_IPV6_MIN_MTU = 1280
ECN_SETTINGS = ("off", "passive", "on", "accurate", "accurate-on", "accurate-passive")
ECN_OPTION_SETTINGS = ("off", "needed", "always")
_T = TypeVar("_T")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _number(low: float, high: float, unit: str, default: Any) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "unit": unit})


@dataclass(frozen=True)
class Config:
    """Settings of one engine. All are checked here; a wrong one raises `ConfigError`, which names it.

    Addresses are interface notations (``"10.0.0.2/24"``, ``"fd00::2/64"``); routes are pairs of prefix and
    next hop (``("0.0.0.0/0", "10.0.0.1")``). Times are seconds, sizes bytes unless said otherwise.
    """

    # the interface
    addresses: Sequence[str] = ()
    routes: Sequence[tuple[str, str]] = ()
    gateway: str | None = None            # default route, IPv4
    gateway6: str | None = None           # default route, IPv6
    medium: str = "ethernet"              # or "ip": bare IP packets without a link layer
    mac: str | None = None                # ethernet only; None: a locally administered one from the seed
    mtu: int = _number(576, 65535, "bytes", 1500)
    accept_any: bool = False              # packets for any destination address are ours (transparent proxies)
    multicast: Sequence[str] = ()       # groups to join
    link_local: bool = True               # ethernet: have an IPv6 link-local address (EUI-64) of our own
    address_check: bool = True            # ethernet: probe for a conflict before using an address (DAD, RFC 5227/4862)
    ttl: int = _number(1, 255, "hops", 64)

    # memory
    pool_packets: int = _number(16, 1 << 26, "packets", 4096)
    packet_size: int = _number(256, 65536, "bytes", 2048)
    headroom: int = _number(128, 4096, "bytes", 128)
    burst: int = _number(1, 4096, "packets", 64)          # packets taken from the driver in one run
    tx_queue: int = _number(16, 1 << 16, "packets", 1024)  # output waiting for the driver

    # net
    neighbours: int = _number(4, 1 << 16, "entries", 512)
    neighbour_queue: int = _number(1, 1024, "packets per entry", 16)
    neighbour_lifetime: float = _number(1, 86400, "seconds", 60.0)
    reassembly_packets: int = _number(0, 1 << 16, "datagrams at once", 64)
    reassembly_bytes: int = _number(0, 1 << 30, "bytes", 1 << 20)
    reassembly_timeout: float = _number(1, 120, "seconds", 30.0)
    icmp_rate: int = _number(0, 1_000_000, "errors per second", 1000)
    udp_queue: int = _number(1, 1 << 16, "events per run", 1024)

    # tcp: connections
    max_connections: int = _number(1, 1 << 22, "connections", 16384)
    max_half_open: int = _number(1, 1 << 20, "connections", 4096)
    half_open_per_port: int = _number(0, 1 << 20, "connections; 0: no limit of its own", 0)
    half_open_per_peer: int = _number(0, 1 << 20, "connections; 0: no limit of its own", 0)
    connections_per_peer: int = _number(0, 1 << 22, "connections; 0: no limit", 0)
    syn_cookies: str = "auto"             # or "always", "off"
    send_buffer: int = _number(2048, 1 << 30, "bytes", 1 << 17)
    send_buffer_max: int = _number(2048, 1 << 30, "bytes", 1 << 22)
    receive_buffer: int = _number(2048, 1 << 30, "bytes", 1 << 17)
    receive_buffer_max: int = _number(2048, 1 << 30, "bytes", 6 << 20)
    autotune: bool = True                 # buffers grow, up to their maxima, as the path needs
    unsent_low: int = _number(0, 1 << 30, "bytes; 0: off", 0)
    out_of_order: int = _number(0, 1 << 16, "segments per connection", 1024)
    # tcp: options offered
    mss: int = _number(0, 65495, "bytes; 0: from the MTU", 0)
    window_scale: bool = True
    sack: bool = True
    dsack: bool = True                    # report duplicate arrivals by SACK (RFC 2883)
    timestamps: bool = True
    strict_timestamps: bool = False       # drop segments without the timestamps that were agreed upon
    option_order: str = "linux"           # of a SYN's options; or "bsd", with its padding
    # tcp: timers
    rto_min: float = _number(0.001, 60, "seconds", 0.2)
    rto_max: float = _number(1, 240, "seconds", 120.0)
    rto_initial: float = _number(0.01, 60, "seconds", 1.0)
    syn_retries: int = _number(0, 64, "retransmissions", 6)
    synack_retries: int = _number(0, 64, "retransmissions", 5)
    retries: int = _number(0, 64, "retransmissions", 15)
    delayed_ack: float = _number(0, 0.5, "seconds; 0: acknowledge at once", 0.04)
    delayed_ack_max: float = _number(0, 0.5, "seconds", 0.2)
    quick_acks: int = _number(0, 1000, "segments", 16)
    time_wait: float = _number(0, 240, "seconds", 60.0)
    fin_wait2: float = _number(0, 3600, "seconds an orphan waits for the peer's FIN", 60.0)
    keepalive: float = _number(0, 86400, "seconds idle; 0: off", 0.0)
    keepalive_interval: float = _number(0.01, 86400, "seconds", 75.0)
    keepalive_probes: int = _number(1, 255, "probes", 9)
    user_timeout: float = _number(0, 86400, "seconds; 0: by retries", 0.0)
    persist_timeout: float = _number(0, 86400, "seconds a peer may keep its window closed; 0: for ever", 0.0)
    # tcp: answers to strangers
    rst_rate: int = _number(0, 1_000_000, "RSTs per second", 1000)
    challenge_rate: int = _number(0, 1_000_000, "ACKs per second", 1000)
    # tcp: fast open
    fastopen: str = "off"                 # or "client", "server", "both"
    fastopen_pending: int = _number(1, 1 << 20, "connections", 256)
    fastopen_cache: int = _number(4, 1 << 16, "servers", 64)
    # tcp: behaviour
    nagle: bool = True
    idle_restart: bool = True             # after a pause longer than the RTO the window starts anew (RFC 5681 §4.1)
    initial_window: int = _number(1, 64, "segments", 10)
    mtu_probing: str = "off"              # or "blackhole", "always": RFC 4821, RFC 8899
    mtu_probing_base: int = _number(64, 65495, "bytes of payload", 1024)
    mtu_probing_interval: float = _number(1, 86400, "seconds", 600.0)
    congestion: str | type = "cubic"      # or a class derived from iip.CongestionControl
    pacing: bool = False                  # segments leave spread over the round trip instead of in bursts
    max_pacing_rate: int = _number(0, 1 << 40, "bytes per second; 0: no limit", 0)
    ecn: str = "passive"                  # one of ECN_SETTINGS: "off", "on": ask for it, "passive": only if the peer asks
    ecn_option: str = "always"            # accurate ECN: counters of bytes in every segment, when "needed", or "off"
    copy_threshold: int = _number(0, 1 << 20, "bytes; longer sends are referenced, not copied", 1 << 12)
    max_pinned: int = _number(0, 1 << 40, "bytes; longer sends are copied again", 1 << 28)
    gso: bool = False
    gro: bool = False
    tso: int = _number(0, 65535, "bytes; 0: the device cuts no segments", 65535)
    ports: tuple[int, int] = (32768, 60999)  # local ports of active opens
    queue: int = _number(0, 127, "of queues", 0)  # which of the device's queues the engine has: ports whose answers come there
    queues: int = _number(1, 128, "queues", 1)

    def __post_init__(self) -> None:
        self._normalise()
        for f in fields(self):
            if "low" in f.metadata:
                _check_number(f, getattr(self, f.name))
        self._check_interface()
        self._check_memory()
        self._check_tcp()

    def replace(self, **changes: Any) -> Config:
        """A copy with some settings changed, checked again."""
        return replace(self, **changes)

    def _normalise(self) -> None:
        for name in ("addresses", "multicast"):
            value = getattr(self, name)
            if isinstance(value, str):
                value = (value,)
            object.__setattr__(self, name, tuple(str(v) for v in value))
        object.__setattr__(self, "routes", tuple((str(p), str(n)) for p, n in self.routes))

    # -- the interface ----------------------------------------------------------------------------------
    @property
    def interfaces(self) -> tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]:
        return tuple(ipaddress.ip_interface(a) for a in self.addresses)

    @property
    def all_routes(self) -> list[tuple[_Network, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
        """Routes with the gateways as default routes: (network, next hop) pairs."""
        routes: list[tuple[_Network, ipaddress.IPv4Address | ipaddress.IPv6Address]] = [
            (ipaddress.ip_network(p, strict=False), ipaddress.ip_address(n)) for p, n in self.routes]
        if self.gateway is not None:
            routes.append((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_address(self.gateway)))
        if self.gateway6 is not None:
            routes.append((ipaddress.ip_network("::/0"), ipaddress.ip_address(self.gateway6)))
        return routes

    def _check_interface(self) -> None:
        if self.medium not in ("ethernet", "ip"):
            raise ConfigError(f"medium={self.medium!r}: use 'ethernet' or 'ip'")
        seen = set()
        for text in self.addresses:
            interface = _parse(ipaddress.ip_interface, "addresses", text, "10.0.0.2/24 or fd00::2/64")
            if interface.ip in seen:
                raise ConfigError(f"addresses: {interface.ip} is given twice; remove one")
            seen.add(interface.ip)
            if interface.ip.is_multicast or interface.ip.is_unspecified:
                raise ConfigError(f"addresses: {interface.ip} cannot be the address of a host; use a unicast address")
            if interface.version == 6 and self.mtu < _IPV6_MIN_MTU:
                raise ConfigError(f"mtu={self.mtu}: IPv6 needs {_IPV6_MIN_MTU} bytes or more (RFC 8200 §5); "
                                  f"raise the MTU or remove {text}")
        for text in self.multicast:
            group = _parse(ipaddress.ip_address, "multicast", text, "224.0.0.251 or ff02::fb")
            if not group.is_multicast:
                raise ConfigError(f"multicast: {text} is not a group address")
        for prefix, hop in self.routes:
            net = _parse(lambda p: ipaddress.ip_network(p, strict=False), "routes", prefix, "10.1.0.0/16")
            if net.version != _parse(ipaddress.ip_address, "routes", hop, "10.0.0.1").version:
                raise ConfigError(f"routes: next hop {hop} is of another IP version than {prefix}")
        for name, version in (("gateway", 4), ("gateway6", 6)):
            value = getattr(self, name)
            if value is not None and _parse(ipaddress.ip_address, name, value, "an address").version != version:
                raise ConfigError(f"{name}={value}: must be an IPv{version} address")
        if self.mac is not None:
            self._check_mac(self.mac)

    def _check_mac(self, mac: str) -> None:
        try:
            raw = bytes.fromhex(mac.replace(":", "").replace("-", ""))
        except ValueError:
            raw = b""
        if len(raw) != 6:
            raise ConfigError(f"mac={self.mac!r}: use six hexadecimal bytes, like 02:00:00:00:00:01")
        if raw[0] & 1 or not any(raw):
            raise ConfigError(f"mac={self.mac!r}: a group or zero address cannot be a station's; "
                              "use one whose first byte is even, like 02:00:00:00:00:01")

    # -- memory and tcp ---------------------------------------------------------------------------------
    def _check_memory(self) -> None:
        if self.packet_size % 64:
            raise ConfigError(f"packet_size={self.packet_size}: use a multiple of 64 bytes")
        if self.headroom > self.packet_size - 128:
            raise ConfigError(f"headroom={self.headroom}: leaves less than 128 bytes of the {self.packet_size}; "
                              "lower it or raise packet_size")

    def _check_tcp(self) -> None:
        if self.rto_min > self.rto_max:
            raise ConfigError(f"rto_min={self.rto_min}: must not exceed rto_max={self.rto_max}")
        if self.mss and not 64 <= self.mss <= self.mtu - 40:
            raise ConfigError(f"mss={self.mss}: must be 0 or from 64 to mtu - 40 = {self.mtu - 40}")
        if self.syn_cookies not in ("off", "auto", "always"):
            raise ConfigError(f"syn_cookies={self.syn_cookies!r}: use 'auto', 'always' or 'off'")
        if self.fastopen not in ("off", "client", "server", "both"):
            raise ConfigError(f"fastopen={self.fastopen!r}: use 'off', 'client', 'server' or 'both'")
        if self.option_order not in ("linux", "bsd"):
            raise ConfigError(f"option_order={self.option_order!r}: use 'linux' or 'bsd'")
        if self.mtu_probing not in ("off", "blackhole", "always"):
            raise ConfigError(f"mtu_probing={self.mtu_probing!r}: use 'off', 'blackhole' or 'always'")
        if self.ecn not in ECN_SETTINGS:
            raise ConfigError(f"ecn={self.ecn!r}: use one of {', '.join(ECN_SETTINGS)}")
        if self.ecn_option not in ECN_OPTION_SETTINGS:
            raise ConfigError(f"ecn_option={self.ecn_option!r}: use one of {', '.join(ECN_OPTION_SETTINGS)}")
        low, high = self.ports
        if not 1 <= low <= high <= 65535:
            raise ConfigError(f"ports={self.ports}: use (low, high) with 1 <= low <= high <= 65535")
        if self.queue >= self.queues:
            raise ConfigError(f"queue={self.queue}: must be less than queues={self.queues}; they count from 0")


def _check_number(f: Field[Any], value: object) -> None:
    low, high, unit = f.metadata["low"], f.metadata["high"], f.metadata["unit"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{f.name}={value!r}: must be from {low} to {high} ({unit})")
    if isinstance(f.default, int) and not isinstance(value, int):
        raise ConfigError(f"{f.name}={value!r}: must be a whole number ({unit})")


def _parse(parser: Callable[[str], _T], name: str, text: str, example: str) -> _T:
    try:
        return parser(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {text!r} is not valid ({error}); write it like {example}") from None
