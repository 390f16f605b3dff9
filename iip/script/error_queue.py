"""recvmsg(MSG_ERRQUEUE) of TCP sockets: which sends with MSG_ZEROCOPY are over, and when bytes left and arrived."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iip.script.sockets import TcpSocket

# Linux: include/uapi/linux/errqueue.h, net_tstamp.h
ORIGIN_TIMESTAMPING, ORIGIN_ZEROCOPY = 4, 5
COPIED = 1                        # ee_code: the bytes were copied after all
SND, SCHED, ACK = 0, 1, 2         # ee_info: which time it is
TX_SOFTWARE, OPT_ID, TX_SCHED, TX_ACK = 2, 128, 256, 512
TRANSMIT = TX_SOFTWARE | TX_SCHED | TX_ACK


@dataclass
class Stamp:
    """The last byte of a send: what is to be told of it."""

    end: int                      # bytes written up to its end
    wanted: int                   # SOF_TIMESTAMPING_*
    told: set[int] = field(default_factory=set)


@dataclass
class Entry:
    """One message of the queue."""

    origin: int
    code: int = 0
    info: int = 0
    data: int = 0
    errno: int = 0
    at: int | None = None         # µs of the script's time


class ErrorQueue:
    def __init__(self, s: TcpSocket):
        self.socket = s
        self.written = 0
        self.sends: deque[int] = deque()      # ends of sends with MSG_ZEROCOPY that are not over
        self.first = 0                        # number of the first of them
        self.stamps: list[Stamp] = []
        self.base = 0                         # bytes written when the option was set
        self.entries: deque[Entry] = deque()

    def sent(self, zero_copy: bool) -> None:
        """A call has queued its bytes."""
        if zero_copy and self.socket.options.get("SO_ZEROCOPY"):
            self.sends.append(self.written)
        wanted = self.socket.options.get("SO_TIMESTAMPING", 0)
        if wanted & TRANSMIT:
            self.stamps.append(Stamp(self.written, wanted))

    def left(self, end: int, at: int) -> None:
        """The bytes up to `end` have left."""
        for stamp in self.stamps:
            if stamp.end <= end and SND not in stamp.told:
                self._tell(stamp, SCHED, TX_SCHED, at)
                self._tell(stamp, SND, TX_SOFTWARE, at)

    def acknowledged(self, at: int) -> None:
        done = self.written - self.socket.unacknowledged()
        for stamp in [stamp for stamp in self.stamps if stamp.end <= done]:
            self._tell(stamp, ACK, TX_ACK, at)
            self.stamps.remove(stamp)

    def _tell(self, stamp: Stamp, which: int, bit: int, at: int) -> None:
        stamp.told.add(which)
        if stamp.wanted & bit:
            number = stamp.end - self.base - 1 if stamp.wanted & OPT_ID else 0
            self.entries.append(Entry(ORIGIN_TIMESTAMPING, info=which, data=number, errno=42, at=at))

    def take(self) -> Entry | None:
        """The next message; completions that follow each other are one."""
        self._complete()
        return self.entries.popleft() if self.entries else None

    def _complete(self) -> None:
        done = self.written - self.socket.unacknowledged()
        last = self.first
        while self.sends and self.sends[0] <= done:
            self.sends.popleft()
            last += 1
        if last > self.first:
            self.entries.append(Entry(ORIGIN_ZEROCOPY, COPIED, self.first, last - 1))
            self.first = last

    def __bool__(self) -> bool:
        self._complete()
        return bool(self.entries)


def control_messages(entry: Entry, symbols: dict[str, int]) -> list[dict[str, Any]]:
    """As recvmsg hands it out."""
    found = []
    if entry.at is not None:
        found.append({"cmsg_level": symbols["SOL_SOCKET"], "cmsg_type": symbols["SCM_TIMESTAMPING"],
                      "cmsg_data": {"scm_sec": entry.at // 1_000_000, "scm_nsec": entry.at % 1_000_000 * 1000}})
    found.append({"cmsg_level": symbols["CMSG_LEVEL_IP"], "cmsg_type": symbols["CMSG_TYPE_RECVERR"],
                  "cmsg_data": {"ee_errno": entry.errno, "ee_origin": entry.origin, "ee_type": 0, "ee_code": entry.code,
                                "ee_info": entry.info, "ee_data": entry.data}})
    return found
