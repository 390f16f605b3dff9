"""What the commands share: options, devices, output."""
from __future__ import annotations

import contextlib
import functools
import ipaddress
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from types import FrameType
from typing import IO, Any, TypeVar

import click

import iip
from iip.drivers import Driver
from iip.errors import IipError
from iip.runtime.threads import Member, Threads

Command = TypeVar("Command", bound=Callable[..., Any])

PROGRESS_AFTER = 1.0              # seconds; shorter work shows none


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def errors(command: Command) -> Command:
    """Turn the exceptions that a user can act on into a message: exit code 2 for wrong settings, 1 for the rest."""
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except iip.ConfigError as error:
            raise click.UsageError(str(error)) from None
        except (IipError, OSError) as error:
            raise click.ClickException(str(error)) from None
    return wrapped  # type: ignore[return-value]


DRIVERS = ("tap", "tun", "af_packet", "af_xdp", "dpdk")
SHARED = ("af_packet", "af_xdp", "dpdk")      # the kernel has the device, too, or there is none of ours at the other end


def device_options(command: Command) -> Command:
    """The device, and the addresses of both ends."""
    for option in reversed([
        click.option("--tap", metavar="NAME", help="TAP device (Ethernet), made if it does not exist."),
        click.option("--tun", metavar="NAME", help="TUN device (bare IP), made if it does not exist."),
        click.option("--driver", "kind", type=click.Choice(DRIVERS), help="Kind of driver for --device."),
        click.option("--device", "name", metavar="NAME",
                     help="Network device for --driver; for dpdk a PCI address or, like net_tap0, a virtual device."),
        click.option("--address", "addresses", metavar="CIDR", multiple=True, required=True,
                     help="Our own address, like 10.0.0.2/24 or fd00::2/64. Repeat for more."),
        click.option("--host-address", "host_addresses", metavar="CIDR", multiple=True,
                     help="Address for the kernel's end of a TAP or TUN device (needs iip[netlink] and root)."),
        click.option("--gateway", metavar="ADDRESS", multiple=True,
                     help="Default router; without it the first --host-address."),
        click.option("--mtu", type=click.IntRange(576, 65535), help="Set the MTU of the device, bytes."),
        click.option("--no-offload", is_flag=True, help="Checksums and segmentation are not left to the kernel."),
    ]):
        command = option(command)
    return command


def _chosen(tap: str | None, tun: str | None, kind: str | None, name: str | None) -> tuple[str, str]:
    """Driver and device of the options; --tap NAME is --driver tap --device NAME."""
    choices = [(k, n) for k, n in (("tap", tap), ("tun", tun), (kind or "", name)) if n]
    if len(choices) != 1 or bool(kind) != bool(name):
        raise click.UsageError("choose one device: --tap NAME, --tun NAME, or --driver KIND --device NAME")
    return choices[0]


def open_driver(kind: str, name: str, mtu: int | None, addresses: Collection[str], host_addresses: Collection[str],
                no_offload: bool = False) -> Driver:
    from iip.drivers import AfPacket, AfXdp, Tap, Tun

    if kind in SHARED and host_addresses:
        raise click.UsageError(f"--host-address is for TAP and TUN; --driver {kind} uses a device that has its addresses")
    if kind == "af_packet":
        return AfPacket(name, mtu=mtu, offload=not no_offload)
    if kind == "af_xdp":
        return AfXdp(name, mtu=mtu, addresses=tuple(addresses))
    if kind == "dpdk":
        return _dpdk()(name, mtu=mtu, offload=not no_offload)
    return (Tap if kind == "tap" else Tun)(name, mtu=mtu, host_address=tuple(host_addresses), offload=not no_offload)


def _dpdk() -> Any:
    try:
        from iip.drivers.dpdk import Dpdk
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    return Dpdk


def device_settings(kind: str, driver: Driver, addresses: Collection[str], host_addresses: Collection[str],
                    gateway: Collection[str]) -> dict[str, Any]:
    """The settings of a stack on a device as the options say."""
    settings = {"addresses": tuple(addresses), "medium": driver.medium, "mtu": driver.mtu,
                "packet_size": _packet_size(kind, driver.mtu), **_gateways(gateway, host_addresses)}
    if kind in SHARED:            # the kernel has the link-local address of that station already
        settings["link_local"] = False
    if host_addresses:            # the host's end is ours, too: nobody else is there whose address we could have taken
        settings["address_check"] = False
    return settings


def stack_on_device(make: Callable[..., Any], *, tap: str | None, tun: str | None, kind: str | None, name: str | None,
                    addresses: Collection[str], host_addresses: Collection[str], gateway: Collection[str], mtu: int | None,
                    no_offload: bool = False, **more: Any) -> Any:
    """`make` (iip.aio.Stack or iip.socket.Stack) on a device as the options say."""
    kind, name = _chosen(tap, tun, kind, name)
    driver = open_driver(kind, name, mtu, addresses, host_addresses, no_offload)
    try:
        return make(driver, **device_settings(kind, driver, addresses, host_addresses, gateway), **more)
    except BaseException:
        driver.close()
        raise


def open_engine(handler: Any, *, tap: str | None, tun: str | None, kind: str | None, name: str | None,
                addresses: Collection[str], host_addresses: Collection[str], gateway: Collection[str], mtu: int | None,
                no_offload: bool = False, wrap: Callable[[Driver], Driver] | None = None, **settings: Any) -> iip.Engine:
    """An engine on a device as the options say. `wrap` puts a middleware around the driver."""
    kind, name = _chosen(tap, tun, kind, name)
    driver = open_driver(kind, name, mtu, addresses, host_addresses, no_offload)
    try:
        config = iip.Config(**{**device_settings(kind, driver, addresses, host_addresses, gateway), **settings})
        return iip.Engine(config, handler, driver if wrap is None else wrap(driver))
    except BaseException:
        driver.close()
        raise


def open_members(threads: Threads, handlers: list[Any], *, tap: str | None, tun: str | None, kind: str | None, name: str | None,
                 addresses: Collection[str], host_addresses: Collection[str], gateway: Collection[str], mtu: int | None,
                 no_offload: bool = False, wrap: Callable[[Driver], Driver] | None = None, **settings: Any) -> list[Member]:
    """Engines in threads, one for each handler and queue of a device."""
    from iip.drivers import AfPacket, AfXdp, Tap, Tun, open_queues

    kind, name = _chosen(tap, tun, kind, name)
    if len(handlers) == 1:
        drivers = [open_driver(kind, name, mtu, addresses, host_addresses, no_offload)]
    else:
        if kind in SHARED and host_addresses:
            raise click.UsageError(f"--host-address is for TAP and TUN; --driver {kind} uses a device that has its addresses")
        own: dict[str, Any] = {"addresses": tuple(addresses)} if kind == "af_xdp" else {"offload": not no_offload}
        if kind not in SHARED:
            own["host_address"] = tuple(host_addresses)
        classes = {"tap": Tap, "tun": Tun, "af_packet": AfPacket, "af_xdp": AfXdp}
        drivers = open_queues(_dpdk() if kind == "dpdk" else classes[kind], name, len(handlers), mtu=mtu, **own)
    try:
        if kind == "tap" and len(handlers) > 1:       # one station, whatever the queue
            settings.setdefault("mac", "02:" + os.urandom(5).hex(":"))
        more = device_settings(kind, drivers[0], addresses, host_addresses, gateway)
        return [threads.add(iip.Config(**{**more, **settings}), handler, driver if wrap is None else wrap(driver), name=f"iip{i}")
                for i, (handler, driver) in enumerate(zip(handlers, drivers, strict=True))]
    except BaseException:
        for driver in drivers:
            driver.close()
        raise


def _packet_size(kind: str, mtu: int) -> int:
    """Cells that a frame fits into; XDP takes two sizes, and a frame in several."""
    if kind == "af_xdp":
        return 2048 if mtu + 18 + 256 <= 2048 else 4096
    return max(2048, (mtu + 18 + 128 + 63) // 64 * 64)


def _gateways(gateways: Iterable[str], host_addresses: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in [*gateways, *(a.split("/")[0] for a in host_addresses)]:
        try:
            name = "gateway" if ipaddress.ip_address(text).version == 4 else "gateway6"
        except ValueError:
            raise click.UsageError(f"--gateway {text}: write an address like 10.0.0.1") from None
        found.setdefault(name, text)
    return found


def emit(result: dict[str, Any], as_json: bool, title: str, skip: Collection[str] = ()) -> None:
    """Print a result: JSON to standard output, or a table."""
    if as_json:
        click.echo(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False)
    for key, value in result.items():
        if key not in skip:
            table.add_row(key.replace("_", " "), _pretty(value))
    Console(highlight=False).print(table)


def _pretty(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, dict):
        return "  ".join(f"{k}={_pretty(v)}" for k, v in value.items())
    return str(value)


def statistics_table(statistics: dict[str, int], title: str, file: IO[str] | None = None) -> None:
    """Print the counters that are not zero."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=False)
    for name, value in statistics.items():
        if value:
            table.add_row(name, f"{value:,}", style=None)
    Console(file=file or sys.stderr, highlight=False).print(table)


def nonzero(statistics: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in statistics.items() if value}


@contextlib.contextmanager
def progress(what: str, total: float | None, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """Yields `update(done, text)`. Shown on standard error, if that is a terminal, once the work has taken a second."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"),
                   TimeElapsedColumn(), console=Console(stderr=True), transient=True, auto_refresh=False)
    start = last = time.monotonic()
    task = bar.add_task(what, total=total, text="")
    shown = False

    def update(done: float, text: str = "") -> None:
        nonlocal shown, last
        now = time.monotonic()
        if not enabled or now - start < PROGRESS_AFTER or now - last < 0.1:
            return
        if not shown:
            bar.start()
            shown = True
        last = now
        bar.update(task, completed=done, text=text, refresh=True)

    try:
        yield update
    finally:
        if shown:
            bar.stop()


class Signals:
    """SIGINT and SIGTERM ask for the end, SIGUSR1 for statistics; the old handlers come back afterwards."""

    def __init__(self) -> None:
        self.stop = False
        self.statistics = False
        self._old: dict[int, Any] = {}

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.stop = True

    def _show(self, number: int, frame: FrameType | None) -> None:
        self.statistics = True

    def __enter__(self) -> None:
        wanted: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: self._end, signal.SIGTERM: self._end}
        if hasattr(signal, "SIGUSR1"):
            wanted[signal.SIGUSR1] = self._show
        for number, handler in wanted.items():
            self._old[number] = signal.signal(number, handler)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def size_text(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
