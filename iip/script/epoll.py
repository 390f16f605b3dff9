"""epoll: the descriptors that are watched, and what is to be told of them."""
from __future__ import annotations

from typing import Any

from iip.script.errors import CallFailed
from iip.script.sockets import Descriptor


class Epoll(Descriptor):
    """What epoll_wait looks at: by descriptor the wanted bits, the data, and for edges what was told last."""

    ET, ONESHOT = 1 << 31, 1 << 30

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, list[Any]] = {}      # fd: wanted, data, descriptor generation last told

    def control(self, operation: int, number: int, event: Any) -> None:
        if operation == 2:
            if number not in self.watched:
                raise CallFailed("ENOENT")
            del self.watched[number]
            return
        if operation == 1 and number in self.watched:
            raise CallFailed("EEXIST")
        if operation == 3 and number not in self.watched:
            raise CallFailed("ENOENT")
        wanted = event.get("events", 0, default=0)
        data = event.get("fd", "ptr", "u32", "u64", "data", 1, default=number)
        self.watched[number] = [wanted & 0xFFFFFFFF, data, None]

    def collect(self, descriptors: dict[int, Descriptor], limit: int) -> list[tuple[int, Any]]:
        found: list[tuple[int, Any]] = []
        for number, entry in self.watched.items():
            descriptor = descriptors.get(number)
            if descriptor is None or len(found) == limit or entry[0] is None:
                continue
            bits = descriptor.ready() & ((entry[0] & ~(self.ET | self.ONESHOT)) | 8 | 16)
            told = (descriptor.generation, bits)
            if not bits or (entry[0] & self.ET and entry[2] == told):
                continue
            entry[2] = told
            found.append((bits, entry[1]))
            if entry[0] & self.ONESHOT:
                entry[0] = None
        return found
