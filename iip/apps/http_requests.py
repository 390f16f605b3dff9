"""What an HTTP/1.1 server reads (RFC 9112): requests in order. The parser is httptools' (pip install 'iip[cli]')."""
from __future__ import annotations

from collections import deque
from typing import NamedTuple

import httptools

PIECE = 4096                      # bytes parsed at a time: no more requests than they hold wait for their answers
HEAD = 1 << 15                    # longest request line and fields together, bytes
WANTED = frozenset([b"range", b"if-range"])


class Request(NamedTuple):
    """A whole request; `fields` are those a file server asks for, by name in small letters."""

    method: bytes
    target: bytes
    fields: dict[bytes, bytes]


class Refusal(NamedTuple):
    """What came is not a request that can be answered; it is the last thing that is read."""

    status: int
    why: str


class Requests:
    """Takes bytes with `feed`, gives requests in `queue`; `final` when nothing is to be read after these."""

    __slots__ = ("_fields", "_head", "_hosts", "_in_head", "_input", "_parser", "_partial", "_target", "final", "queue")

    def __init__(self) -> None:
        self.queue: deque[Request | Refusal] = deque()
        self.final = False
        self._input: deque[memoryview] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._partial = False     # a request has begun and not ended
        self._in_head = False     # nor has its head, of which so many bytes have come:
        self._head = 0
        self._target = b""
        self._fields: dict[bytes, bytes] = {}
        self._hosts = 0

    def add(self, data: bytes) -> None:
        """Bytes to be parsed when `feed` gets to them."""
        self._input.append(memoryview(data))

    def feed(self) -> int:
        """Parse the next piece of what was added; how many bytes, 0 when there are none."""
        if not self._input:
            return 0
        piece = self._input[0]
        if len(piece) > PIECE:
            self._input[0] = piece[PIECE:]
            piece = piece[:PIECE]
        else:
            self._input.popleft()
        if not self.final:
            self._parse(piece)
        return len(piece)

    def end(self) -> None:
        """Nothing follows what was added and parsed."""
        if self._partial and not self.final:
            self._refuse(400, "the request is not complete")
        self.final = True

    def _parse(self, piece: memoryview) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # answered as if it had not asked for another protocol (RFC 9110 §7.8); what follows may be in that
            self.final = True
        except httptools.HttpParserError:
            # behind the last request of a connection anything may come
            if not self.final:
                self._refuse(400, "bad request")
        if self._in_head:
            self._head += len(piece)
            if self._head > HEAD and not self.final:
                self._refuse(431, "the header fields are too long")

    def _refuse(self, status: int, why: str) -> None:
        self.queue.append(Refusal(status, why))
        self.final = True

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._partial = self._in_head = True
        self._head = self._hosts = 0
        self._target = b""
        self._fields = {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in WANTED:
            self._fields[name] = value
        elif name == b"host":
            self._hosts += 1
        elif name == b"expect" and not self.final:
            # it waits for a word before it sends the body, which nothing here asks for (RFC 9110 §10.1.1)
            self._refuse(417, "send the request without Expect")

    def on_headers_complete(self) -> None:
        self._in_head = False
        version = self._parser.get_http_version()
        if self.final:
            return
        if version not in ("1.1", "1.0"):
            self._refuse(505, "use HTTP/1.1")
        elif self._hosts != 1 and (version == "1.1" or self._hosts):
            self._refuse(400, "one Host field, please")   # RFC 9112 §3.2

    def on_message_complete(self) -> None:
        if not self.final:
            self.queue.append(Request(self._parser.get_method(), self._target, self._fields))
            self.final = self._parser.get_http_version() == "1.0" or not self._parser.should_keep_alive()
        self._partial = False
