"""Drivers: where an engine's packets come from and go to.

`MemoryLink` joins two engines in one thread; `Tap` and `Tun` talk to the Linux kernel, `AfPacket` and `AfXdp` to a network
device beside it, `Dpdk` (an optional part) to one without it; `Tunnel` leaves the transport to the program, `Pcap` plays a
capture; `Impair` and `Capture` wrap another driver. Write your own by subclassing `PythonDriver`, or in Cython `Driver`.
"""
from typing import TYPE_CHECKING, Any

from iip.drivers.af_packet import AfPacket
from iip.drivers.af_xdp import AfXdp
from iip.drivers.base import Driver, PythonDriver
from iip.drivers.capability import Capability
from iip.drivers.capture import Capture
from iip.drivers.impair import Impair
from iip.drivers.impairments import CoDel, DropTail, GilbertElliott, Impairments
from iip.drivers.memory import MemoryDriver, MemoryLink
from iip.drivers.pcap import Pcap
from iip.drivers.probe import DriverProbe
from iip.drivers.queues import open_queues
from iip.drivers.tap import Tap, Tun
from iip.drivers.tunnel import Tunnel

if TYPE_CHECKING:
    from iip.drivers.dpdk import Dpdk as Dpdk

__all__ = ["AfPacket", "AfXdp", "Capability", "Capture", "CoDel", "Driver", "DriverProbe", "DropTail", "GilbertElliott", "Impair",
           "Impairments", "MemoryDriver", "MemoryLink", "Pcap", "PythonDriver", "Tap", "Tun", "Tunnel", "open_queues"]


def __getattr__(name: str) -> Any:
    if name == "Dpdk":            # not before it is asked for: it may not be there, and DPDK is large
        from iip.drivers.dpdk import Dpdk

        return Dpdk
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
