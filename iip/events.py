"""What callbacks receive."""
from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

Address = IPv4Address | IPv6Address


class Syn(NamedTuple):
    """A SYN that asks to be accepted."""

    local_address: Address
    local_port: int
    remote_address: Address
    remote_port: int
    mss: int            # the peer's; 0: it did not say
    sack: bool
    timestamps: bool
    window_scale: bool


class Datagram(NamedTuple):
    """A UDP datagram. `data` supports the buffer protocol, `len()` and `bytes()`."""

    data: object
    source: Address
    source_port: int
    destination: Address
    destination_port: int
    ttl: int


class IcmpReply(NamedTuple):
    """An echo reply."""

    source: Address
    ident: int
    seq: int
    ttl: int
    data: bytes


class IcmpError(NamedTuple):
    """An ICMP error about a packet we sent to `destination`; `reporter` is None when a neighbour of ours does not
    answer."""

    reporter: Address | None
    type: int
    code: int
    mtu: int            # of "too big" messages
    destination: Address
    protocol: int
    source_port: int
    destination_port: int


class ArpReply(NamedTuple):
    """The link-layer address of a neighbour."""

    address: Address
    mac: bytes


class Conflict(NamedTuple):
    """A station that uses an address of ours."""

    address: Address
    mac: bytes


class RouterAdvertisement(NamedTuple):
    """What a router of IPv6 says (RFC 4861 §4.2)."""

    router: Address
    mac: bytes
    data: bytes                   # the ICMPv6 message, from its type on; well formed, its checksum is right


class AckSample(NamedTuple):
    """What an ACK told, for `CongestionControl.on_ack`."""

    acked: int                    # bytes newly acknowledged
    delivered: int                # bytes that are now known to have arrived, behind gaps too
    in_flight: int                # bytes in flight before
    lost: int                     # bytes thought lost since
    rtt: float | None             # s, a new measurement
    recovery: bool                # lost segments are being repaired, and the window is not yours
    ece: bool                     # the peer saw marks of congestion
    delivery_rate: float | None   # bytes per second, if the algorithm `measures`
    app_limited: bool | None      # the rate tells more about the application than about the path
