"""An HTTP/1.1 file server: GET and HEAD, keep-alive, ranges."""
from __future__ import annotations

import http.client
import os
import time

from iip import Connection, Handler, Payload, Reason
from iip.apps.files import CHUNK, Body, http_date, respond, text
from iip.apps.http_requests import Refusal, Request, Requests
from iip.apps.pending import Pending


class HttpServer(Handler):
    """Serves the files below `root`; `listing` shows directories that have no index.html.

    Files are read in pieces of 256 KiB as the peer acknowledges. (Not mapped: a file that somebody shortens
    meanwhile would kill the process; read, it ends the one connection.)
    """

    def __init__(self, root: str | os.PathLike[str], listing: bool = True, server: str = "iip") -> None:
        self.root = os.path.realpath(root)
        if not os.path.isdir(self.root):
            raise NotADirectoryError(f"root: {root} is not a directory")
        self.listing = listing
        self.server = server
        self.requests = 0

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = _Session()

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        session = conn.context
        session.requests.add(bytes(data))
        if not session.busy:
            self._advance(conn, session)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        session = conn.context
        if session.busy:
            self._advance(conn, session)

    def tcp_shutdown(self, conn: Connection) -> None:
        session = conn.context
        session.shut = True
        if not session.busy:
            self._advance(conn, session)

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        if isinstance(conn.context, _Session):
            conn.context.close_file()

    def _advance(self, conn: Connection, session: _Session) -> None:
        """Answer one request after the other, as far as the send buffer allows. What came is read, and more may come,
        only when nothing is being answered."""
        requests = session.requests
        while not session.busy or self._pump(conn, session):
            if requests.queue:
                self._answer(session, requests.queue.popleft(), last=requests.final and not requests.queue)
            elif n := requests.feed():
                conn.consume(n)
            elif requests.final:
                conn.close()
                return
            elif session.shut:
                requests.end()
            else:
                return

    def _answer(self, session: _Session, request: Request | Refusal, last: bool) -> None:
        if isinstance(request, Refusal):
            self._start(session, text(request.status, request.why), last, head=False)
            return
        self.requests += 1
        if request.method not in (b"GET", b"HEAD"):
            body = text(405, "use GET or HEAD", ("Allow", "GET, HEAD"))
        else:
            target = request.target.decode("latin-1")
            if target.isascii() and target.isprintable():
                body = respond(self.root, target, request.fields, self.listing)
            else:
                body = text(400, "bad target")
        self._start(session, body, last, head=request.method == b"HEAD")

    def _start(self, session: _Session, body: Body, last: bool, head: bool) -> None:
        session.pending.add(self._head(body, last))
        if head and body.file is not None:
            os.close(body.file)
        elif body.file is not None:
            session.file, session.offset, session.left = body.file, body.start, body.length
        elif not head:
            session.pending.add(body.data)
        session.busy = True

    def _head(self, body: Body, last: bool) -> bytes:
        fields = [("Server", self.server), ("Date", http_date(int(time.time()))), ("Content-Length", str(body.length)),
                  *body.headers]
        if last:
            fields.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {body.status} {http.client.responses[body.status]}", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _pump(self, conn: Connection, session: _Session) -> bool:
        """Send what there is; True when the response has been handed over completely."""
        while True:
            session.pending.flush(conn)
            if session.pending:
                return False
            if session.file is None:
                break
            if not session.left:
                session.close_file()
                break
            data = session.read()
            if not data:
                # shorter than promised: only breaking off tells the peer
                session.close_file()
                session.busy = False
                conn.abort()
                return False
            session.pending.add(data)
        session.busy = False
        return True


class _Session:
    """One connection."""

    __slots__ = ("busy", "file", "left", "offset", "pending", "requests", "shut")

    def __init__(self) -> None:
        self.requests = Requests()
        self.pending = Pending()
        self.file: int | None = None
        self.offset = 0
        self.left = 0             # bytes of the file still to send
        self.busy = False         # a response is under way
        self.shut = False         # the peer sends nothing more

    def read(self) -> bytes:
        """The next piece of the file; nothing when it is shorter than it was."""
        assert self.file is not None
        try:
            data = os.pread(self.file, min(CHUNK, self.left), self.offset)
        except OSError:
            return b""
        self.offset += len(data)
        self.left -= len(data)
        return data

    def close_file(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None
