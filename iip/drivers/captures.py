"""Reading captures, pcap and pcapng, plain or compressed by gzip."""
from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any, BinaryIO, NamedTuple

from iip.errors import DriverError

_MEDIA = {1: "ethernet", 12: "ip", 14: "ip", 101: "ip", 228: "ip", 229: "ip"}      # by link type


class Captured(NamedTuple):
    at: int                       # ns since 1970
    frame: bytes
    medium: str | None            # None: of neither kind
    whole: bool                   # nothing was cut off when it was captured
    direction: str | None         # "in", "out", None: the capture does not tell


def read(file: str | os.PathLike[str] | BinaryIO) -> Generator[Captured, None, None]:
    """The packets of a capture, in the order of the file."""
    try:
        from scapy.error import Scapy_Exception
        from scapy.utils import RawPcapReader
    except ImportError:
        raise DriverError("reading captures needs the library scapy: pip install 'iip[pcap]'") from None
    try:
        source: Any = os.fspath(file) if isinstance(file, os.PathLike) else file
        reader: Any = RawPcapReader(source)
    except FileNotFoundError:
        raise DriverError(f"there is no capture {str(file)!r}") from None
    except Scapy_Exception:
        raise DriverError(f"{getattr(file, 'name', file)!s} is no capture in the format pcap or pcapng; convert it with "
                          "`editcap -F pcapng`") from None
    return _packets(reader)


def _packets(reader: Any) -> Generator[Captured, None, None]:
    with reader:
        for frame, meta in reader:
            if hasattr(meta, "tsresol"):
                at, link = ((meta.tshigh << 32) + meta.tslow) * 1_000_000_000 // meta.tsresol, meta.linktype
            else:
                at, link = meta.sec * 1_000_000_000 + meta.usec * (1 if reader.nano else 1000), reader.linktype
            yield Captured(at, frame, _MEDIA.get(link), len(frame) >= meta.wirelen,
                           {1: "in", 2: "out"}.get(getattr(meta, "direction", None) or 0))


class Source:
    """The packets of a capture that are of one medium and direction, and not cut short, one by one."""

    def __init__(self, file: str | os.PathLike[str] | BinaryIO, direction: str | None) -> None:
        self.ignored = 0
        self._packets = read(file)
        self._direction = direction
        self._first = next((p for p in self._packets if p.medium is not None), None)
        self.medium = "ethernet" if self._first is None else self._first.medium
        self.start = 0 if self._first is None else self._first.at

    def next(self) -> Captured | None:
        packet, self._first = self._first or next(self._packets, None), None
        while packet is not None:
            if packet.whole and packet.medium == self.medium and self._direction in (None, packet.direction):
                return packet
            self.ignored += 1
            packet = next(self._packets, None)
        return None

    def close(self) -> None:
        self._first = None
        self._packets.close()
