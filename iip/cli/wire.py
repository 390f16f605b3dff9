"""`iip wire`: a bad wire between two TAP devices."""
from __future__ import annotations

import threading
import time
from typing import Any

import click

from iip.cli.common import Signals, emit, errors, json_option, nonzero
from iip.cli.units import impairment_options, impairments
from iip.drivers import Tap
from iip.drivers.netns import namespace
from iip.drivers.wire import Wire


def _open(text: str, mtu: int | None) -> Tap:
    """The device of ``[NAMESPACE:]NAME``."""
    place, _, name = text.rpartition(":")
    if not name:
        raise click.UsageError(f"{text!r}: write a device as NAME or NETNS:NAME")
    with namespace(place or None):
        return Tap(name, mtu=mtu)


@click.command()
@click.argument("tap1", metavar="[NETNS:]TAP1")
@click.argument("tap2", metavar="[NETNS:]TAP2")
@impairment_options
@click.option("--seconds", type=click.FloatRange(0.01, 1e9), help="End after that; otherwise by Ctrl-C.")
@click.option("--mtu", type=click.IntRange(576, 65535), help="Set the MTU of both devices, bytes.")
@click.option("--packets", type=click.IntRange(64, 1 << 22), default=1 << 15, show_default=True,
              help="Packets on the wire at most.")
@json_option
@errors
def wire(tap1: str, tap2: str, seed: int, seconds: float | None, mtu: int | None, packets: int, as_json: bool,
         **settings: Any) -> None:
    """Forward frames between two TAP devices as a bad wire would. Needs root.

    A device that does not exist is made, and goes with the program. It may be in a namespace of `ip netns`
    (`iip wire left:tap0 right:tap0`) or be moved to one while the wire is running. The first packets may be those by
    which the kernel announces itself. Statistics are printed at the end.
    """
    there, back = impairments(**settings)
    if tap1 == tap2:
        raise click.UsageError(f"{tap1}: a wire has two ends; name two devices")
    devices: list[Tap] = []
    try:
        devices.append(_open(tap1, mtu))
        devices.append(_open(tap2, mtu))
        joined = Wire(*devices, seed=seed, there=there, back=back, packets=packets)
        begin = time.monotonic()
        signals = Signals()
        if threading.current_thread() is threading.main_thread():
            with signals:
                click.echo(f"{tap1} and {tap2} are joined; end with Ctrl-C", err=True)
                joined.run(seconds, stop=lambda: signals.stop)
        else:
            joined.run(seconds)
        stats = joined.stats()
        result: dict[str, Any] = {"seconds": time.monotonic() - begin, "there": stats["there"], "back": stats["back"],
                  "tap1": devices[0].stats(), "tap2": devices[1].stats()}
        joined.close()
    finally:
        for device in devices:
            device.close()
    if not as_json:
        result = {key: nonzero(value) if isinstance(value, dict) else value for key, value in result.items()}
    emit(result, as_json, f"wire: {tap1} - {tap2}")
