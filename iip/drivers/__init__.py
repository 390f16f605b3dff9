"""Drivers: where an engine's packets come from and go to.

`MemoryLink` joins two engines in one thread; `Tap` and `Tun` talk to the Linux kernel, `AfPacket` and `AfXdp` to a
network device beside it; `Tunnel` leaves the transport to the program, `Pcap` plays a capture; `Impair` and `Capture`
wrap another driver. Write your own by subclassing `PythonDriver`, or in Cython `Driver`.
"""
from enum import IntFlag

from iip.drivers.af_packet import AfPacket
from iip.drivers.af_xdp import AfXdp
from iip.drivers.base import Driver, PythonDriver
from iip.drivers.capture import Capture
from iip.drivers.impair import Impair
from iip.drivers.impairments import CoDel, DropTail, GilbertElliott, Impairments
from iip.drivers.memory import MemoryDriver, MemoryLink
from iip.drivers.pcap import Pcap
from iip.drivers.probe import DriverProbe
from iip.drivers.queues import open_queues
from iip.drivers.tap import Tap, Tun
from iip.drivers.tunnel import Tunnel


class Capability(IntFlag):
    """What a device does, so that the engine need not (`Driver.caps`)."""

    RX_IP_CSUM = 0x01                 # verifies IPv4 header checksums
    RX_L4_CSUM = 0x02                 # verifies TCP and UDP checksums
    TX_IP_CSUM = 0x04                 # completes IPv4 header checksums
    TX_L4_CSUM = 0x08                 # completes TCP and UDP checksums
    SG = 0x10                         # sends packets in several pieces
    TSO4 = 0x20                       # cuts TCP segments, IPv4
    TSO6 = 0x40                       # cuts TCP segments, IPv6
    LRO = 0x80                        # may hand in TCP segments larger than the MTU


__all__ = ["AfPacket", "AfXdp", "Capability", "Capture", "CoDel", "Driver", "DriverProbe", "DropTail", "GilbertElliott", "Impair",
           "Impairments", "MemoryDriver", "MemoryLink", "Pcap", "PythonDriver", "Tap", "Tun", "Tunnel", "open_queues"]
