"""Several drivers of one device: a queue for each engine."""
from __future__ import annotations

from typing import Any

from iip.drivers.af_packet import AfPacket
from iip.drivers.af_xdp import AfXdp
from iip.drivers.base import Driver
from iip.drivers.tap import Tap, Tun
from iip.errors import ConfigError


def open_queues(kind: type[Driver], name: str | None, n: int, **settings: Any) -> list[Any]:
    """`n` drivers of class `kind` (`Tap`, `Tun`, `AfPacket`, `AfXdp`, `Dpdk`) on device `name`, which deals packets flow by flow.

    The settings are those of the class. `Tap` and `Tun` make a device with that many queues, `AfPacket` a group of sockets,
    `AfXdp` and `Dpdk` take the queues from 0 on, which the device must have.
    """
    if kind not in (Tap, Tun, AfPacket, AfXdp) and not _is_dpdk(kind):
        raise ConfigError(f"{kind.__name__} has no queues; use Tap, Tun, AfPacket, AfXdp or Dpdk")
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 256:
        raise ConfigError(f"n={n!r}: must be from 1 to 256 queues")
    opened: list[Any] = []
    try:
        for i in range(n):
            opened.append(_queue(kind, name, i, n, opened[0] if opened else None, settings))
    except BaseException:
        for driver in opened:
            driver.close()
        raise
    return opened


def _queue(kind: Any, name: str | None, i: int, n: int, first: Any, settings: dict[str, Any]) -> Any:
    if kind in (Tap, Tun):
        if first is None:
            return kind(name, queues=n, **settings)
        done = ("host_address", "mtu", "persist")      # the device is one, and set up
        return kind(first.name, queues=n, **{key: value for key, value in settings.items() if key not in done})
    if kind is AfPacket:
        return AfPacket(str(name), **{"group": (0 if n > 1 else None) if first is None else first.group, **settings})
    if first is None:
        return kind(str(name), queues=n, **settings)
    shared = ("addresses", "mode", "mtu") if kind is AfXdp else ("mtu", "mac", "offload", "ring")
    return kind(str(name), queue=i, beside=first, **{k: v for k, v in settings.items() if k not in shared})


def _is_dpdk(kind: type[Driver]) -> bool:
    """Without importing it, which needs DPDK."""
    return kind.__module__ == "iip.drivers.dpdk.driver" and kind.__name__ == "Dpdk"
