"""Two TAP devices that a bridge of the kernel joins: what a memory link is, with the kernel in between."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from iip.drivers import Capability, Tap
from iip.drivers.netns import private
from iip.errors import DriverError

BRIDGE = "bridge0"


class TapLink:
    """`a` and `b`, in a network namespace that exists as long as they do. Root; needs iip[netlink]."""

    medium = "ethernet"

    def __init__(self, mtu: int, caps: Capability) -> None:
        with private():
            self.a = Tap("tap0", mtu=mtu, offload=caps)
            self.b = Tap("tap1", mtu=mtu, offload=caps)
            with ThreadPoolExecutor(1) as thread:     # for pyroute2, which runs an event loop of its own
                thread.submit(_join, mtu, self.a.name, self.b.name).result()


def _join(mtu: int, *ports: str) -> None:
    """Nobody on the bridge has addresses: it forwards, and is silent itself."""
    try:
        from pyroute2 import IPRoute
    except ImportError:
        raise DriverError("--tap needs the library pyroute2: pip install 'iip[netlink]'") from None
    with IPRoute() as ipr:
        ipr.link("add", ifname=BRIDGE, kind="bridge", br_mcast_snooping=0)
        for name in (BRIDGE, *ports):
            with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as setting:
                setting.write("1")
        bridge = ipr.link_lookup(ifname=BRIDGE)[0]
        for name in ports:
            ipr.link("set", index=ipr.link_lookup(ifname=name)[0], master=bridge)
        ipr.link("set", index=bridge, mtu=mtu, state="up")
