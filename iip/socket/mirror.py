"""A descriptor that selectors can watch: readable and writable while the socket is."""
from __future__ import annotations

import contextlib
import socket

_FILL = bytes(4096)


class Mirror:
    """One end of a pair of kernel sockets, `fileno()`, is given away to be watched and nothing else. A byte from our end makes it
    readable until it is taken back; filling the other direction's buffer makes it not writable until it is emptied. So
    level-triggered and edge-triggered watchers see what they would see of a kernel's socket."""

    def __init__(self) -> None:
        self._theirs, self._ours = socket.socketpair()
        self._theirs.setblocking(False)
        self._ours.setblocking(False)
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)      # the smallest there is
        self._readable = self._hung = False
        self._writable = True

    def fileno(self) -> int:
        return self._theirs.fileno()

    def show(self, readable: bool, writable: bool, hung: bool) -> None:
        """hung: both directions are over, for ever."""
        if readable != self._readable:
            self._readable = readable
            if readable:
                self._ours.send(b"r")
            else:
                self._theirs.recv(1)
        if writable != self._writable:
            self._writable = writable
            with contextlib.suppress(BlockingIOError):
                while True:
                    if writable:
                        self._ours.recv(1 << 16)
                    else:
                        self._theirs.send(_FILL)
        if hung and not self._hung:
            self._hung = True
            self._ours.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._theirs.close()
        self._ours.close()
