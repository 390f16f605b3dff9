"""Numbers as people write them: 100M, 10ms, 1%, 256k, 0.5bdp; and the options of a bad wire."""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from iip.cli.common import Command
from iip.drivers.impairments import CoDel, DropTail, Impairments
from iip.errors import ConfigError

_PREFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_TIME = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_NUMBER = r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*"


class _Unit(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    def __init__(self, name: str, pattern: str, convert: Callable[[re.Match[str]], Any], example: str) -> None:
        self.name, self._pattern, self._convert, self._example = name, re.compile(pattern), convert, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        match = self._pattern.fullmatch(value)
        if match is None:
            self.fail(f"{value!r}: write it like {self._example}", param, ctx)
        return self._convert(match)


RATE = _Unit("rate", _NUMBER + r"([kKMG]?)(?:bit|bit/s|bps)?", lambda m: float(m[1]) * _PREFIX[m[2]],
             "100M, 1G or 64k (bits per second)")
TIME = _Unit("time", _NUMBER + r"(s|ms|us|ns|)", lambda m: float(m[1]) * _TIME[m[2]], "10ms, 250us or 0.01")
SHARE = _Unit("share", _NUMBER + r"(%?)", lambda m: float(m[1]) / (100 if m[2] else 1), "1% or 0.01")
QUEUE = _Unit("queue", _NUMBER + r"([kKMG]?)(p|bdp|)", lambda m: (float(m[1]) * _PREFIX[m[2]], m[3] or "bytes"),
              "64k (bytes), 100p (packets) or 1bdp (rate times round-trip time)")


def impairment_options(command: Command) -> Command:
    """--rate, --delay, ...: what `impairments` takes."""
    for option in reversed([
        click.option("--rate", type=RATE, default=0.0, help="Bits per second, like 100M; without it unlimited."),
        click.option("--delay", type=TIME, default=0.0, help="One way, like 10ms."),
        click.option("--jitter", type=TIME, default=0.0, help="Up to so much more delay; packets keep their order."),
        click.option("--queue", type=QUEUE, default=(1.0, "bdp"), show_default="1bdp",
                     help="What may wait at --rate: bytes (64k), packets (100p), or 1bdp: --rate times twice --delay."),
        click.option("--codel", is_flag=True, help="The queue is managed by CoDel."),
        click.option("--ecn", is_flag=True, help="Mark instead of dropping: with --codel by its rule, otherwise above "
                     "half of the queue."),
        click.option("--loss", type=SHARE, default=0.0, help="Share of packets lost, like 1%."),
        click.option("--reorder", type=SHARE, default=0.0, help="Share of packets that are overtaken, like 5%."),
        click.option("--reorder-delay", type=TIME, default=0.001, show_default="1ms",
                     help="How much longer those take."),
        click.option("--duplicate", type=SHARE, default=0.0, help="Share of packets that arrive twice."),
        click.option("--corrupt", type=SHARE, default=0.0, help="Share of packets with a bit flipped."),
        click.option("--on", "where", type=click.Choice(["both", "there", "back"]), default="both", show_default=True,
                     help="Direction of loss, reordering, duplication and corruption; --rate, --delay, --jitter and "
                     "--queue are for both."),
        click.option("--seed", type=int, default=1, show_default=True, help="Of the dice."),
    ]):
        command = option(command)
    return command


def queue_bytes(size: float, unit: str, rate: float, rtt: float) -> int | None:
    """A queue in bytes: at least one full-size packet; None if it is counted in packets."""
    if unit == "p":
        return None
    if unit == "bdp":
        size = size * rate * rtt / 8 if rate else 1 << 18
    return max(1514, int(size))


def impairments(*, rate: float, delay: float, jitter: float, queue: tuple[float, str], codel: bool, ecn: bool,
                loss: float, reorder: float, reorder_delay: float, duplicate: float, corrupt: float,
                where: str) -> tuple[Impairments, Impairments]:
    """Both directions as the options say: there and back."""
    size, unit = queue
    octets = queue_bytes(size, unit, rate, 2 * delay)
    if octets is None:
        packets = max(1, int(size))
        octets = packets * 1514
    else:
        packets = 0
    managed: DropTail | CoDel
    if codel:
        managed = CoDel(ecn=ecn, bytes=octets, packets=packets)
    else:
        managed = DropTail(bytes=octets, packets=packets, mark=octets // 2 if ecn else 0)
    if not rate and (codel or ecn):
        raise ConfigError("--codel and --ecn need a --rate: without one nothing waits")
    on_the_way = int(rate * (delay + jitter + reorder_delay) / 8 / 64) if rate else 1 << 16
    limit = min(1 << 20, max(1 << 14, packets, octets // 64 + on_the_way))
    same: dict[str, Any] = {"rate": rate, "delay": delay, "jitter": jitter, "queue": managed, "limit": limit}
    bad: dict[str, Any] = {"loss": loss, "reorder": reorder, "reorder_delay": reorder_delay, "duplicate": duplicate,
                           "corrupt": corrupt}
    there, back = (Impairments(**same, **(bad if where in ("both", direction) else {}))
                   for direction in ("there", "back"))
    return there, back
