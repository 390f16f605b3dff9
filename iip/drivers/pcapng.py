"""Writing pcapng files, for Wireshark and tcpdump."""
from __future__ import annotations

import os
import struct
from typing import BinaryIO, Literal

from iip.errors import ConfigError

LINKTYPE = {"ethernet": 1, "ip": 101}
INBOUND, OUTBOUND = 1, 2


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) & 3)
    total = len(body) + 12
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)


class PcapngWriter:
    """Packets of one or several interfaces, times in nanoseconds.

    file: a path or a binary file object, which stays open; snaplen: bytes kept of each packet, 0: all.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO, *, snaplen: int = 0) -> None:
        if isinstance(snaplen, bool) or not isinstance(snaplen, int) or not 0 <= snaplen <= 1 << 20:
            raise ConfigError(f"snaplen={snaplen}: must be from 0 (everything) to {1 << 20} bytes")
        self.snaplen = snaplen
        self.packets = 0
        self._interfaces = 0
        self._owned: BinaryIO | None = None
        self._file: BinaryIO | None
        if isinstance(file, (str, os.PathLike)):
            self._file = self._owned = open(file, "wb")  # noqa: SIM115
        else:
            self._file = file
        self._file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))

    def interface(self, medium: Literal["ethernet", "ip"] | str, name: str = "") -> int:
        """Declare an interface; its number."""
        options = _option(2, name.encode()) if name else b""
        options += _option(9, b"\x09") + _option(0, b"")      # option 9: times in units of 10**-9 s
        if self._file is not None:
            self._file.write(_block(1, struct.pack("<HHI", LINKTYPE[medium], 0, self.snaplen) + options))
        self._interfaces += 1
        return self._interfaces - 1

    def frame(self, at: int, frame: bytes, direction: int, interface: int = 0) -> None:
        """One packet, at a time in ns since 1970; direction: 1 inbound, 2 outbound. Does nothing once closed."""
        if self._file is None:
            return
        kept = frame[:self.snaplen] if self.snaplen else frame
        at &= 0xFFFFFFFFFFFFFFFF
        body = struct.pack("<IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(kept), len(frame))
        body += kept + bytes(-len(kept) & 3) + _option(2, struct.pack("<I", direction)) + _option(0, b"")
        self._file.write(_block(6, body))
        self.packets += 1

    def close(self) -> None:
        """Write no more; close the file if it was opened here."""
        self._file = None
        if self._owned is not None:
            self._owned.close()
            self._owned = None
