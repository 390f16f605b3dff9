"""An HTTP/1.1 file server: GET and HEAD, keep-alive, ranges. The framing is h11's (pip install 'iip[cli]')."""
from __future__ import annotations

import email.utils
import os
import time

import h11

from iip import Connection, Handler, Payload, Reason
from iip.apps.files import CHUNK, Body, respond, text
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
        self._date: tuple[int, str] = (-1, "")

    def tcp_accepted(self, conn: Connection) -> None:
        conn.context = _Session()

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        session = conn.context
        if session.ended:
            conn.consume(len(data))
            return
        session.http.receive_data(bytes(data))
        session.unconsumed += len(data)
        self._advance(conn, session)

    def tcp_acked(self, conn: Connection, n: int) -> None:
        session = conn.context
        if session.busy:
            self._advance(conn, session)

    def tcp_shutdown(self, conn: Connection) -> None:
        session = conn.context
        if not session.ended:
            session.http.receive_data(b"")
            self._advance(conn, session)

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        if isinstance(conn.context, _Session):
            conn.context.close_file()

    def _advance(self, conn: Connection, session: _Session) -> None:
        """Answer one request after the other, as far as the send buffer allows."""
        while True:
            if session.busy and not self._pump(conn, session):
                return
            if session.ended:
                conn.close()
                return
            # no request is being answered: what came in may be parsed, so more may come
            if session.unconsumed:
                conn.consume(session.unconsumed)
                session.unconsumed = 0
            try:
                if session.http.our_state is h11.DONE and session.http.their_state is h11.DONE:
                    session.http.start_next_cycle()
                event = session.http.next_event()
            except h11.RemoteProtocolError as error:
                # it refers to itself through its frames, which would keep the received packet until garbage collection
                error.__traceback__ = None
                self._refuse(session, error)
                continue
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Request):
                session.request = event
            elif isinstance(event, h11.EndOfMessage) and session.request is not None:
                self._answer(session, session.request)
            elif isinstance(event, h11.ConnectionClosed):
                session.ended = True

    def _answer(self, session: _Session, request: h11.Request) -> None:
        self.requests += 1
        method = request.method.decode("ascii")
        if method not in ("GET", "HEAD"):
            body = text(405, "use GET or HEAD", ("Allow", "GET, HEAD"))
        else:
            try:
                target = request.target.decode("ascii")
                body = respond(self.root, target, dict(request.headers), self.listing)
            except ValueError:
                body = text(400, "bad target")
        self._start(session, body, head=method == "HEAD")

    def _refuse(self, session: _Session, error: h11.RemoteProtocolError) -> None:
        """The request is not HTTP: say so if that is still possible, and close."""
        session.ended = True
        if session.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._start(session, text(error.error_status_hint, "bad request", ("Connection", "close")), head=False)

    def _start(self, session: _Session, body: Body, head: bool) -> None:
        headers = [("Server", self.server), ("Date", self._now()), ("Content-Length", str(body.length)), *body.headers]
        session.pending.add(session.http.send(h11.Response(status_code=body.status, headers=headers)))
        if head and body.file is not None:
            os.close(body.file)
        elif body.file is not None:
            session.file, session.offset, session.left = body.file, body.start, body.length
        elif not head:
            session.pending.add(session.http.send(h11.Data(data=body.data)))
        if session.file is None:
            session.http.send(h11.EndOfMessage())
        session.busy = True

    def _pump(self, conn: Connection, session: _Session) -> bool:
        """Send what there is; True when the response has been handed over completely."""
        while True:
            session.pending.flush(conn)
            if session.pending:
                return False
            if session.file is None:
                break
            if session.left:
                try:
                    data = os.pread(session.file, min(CHUNK, session.left), session.offset)
                except OSError:
                    data = b""
                if not data:
                    # shorter than promised: only breaking off tells the peer
                    session.close_file()
                    session.busy = False
                    session.ended = True
                    conn.abort()
                    return False
                session.offset += len(data)
                session.left -= len(data)
                for piece in session.http.send_with_data_passthrough(h11.Data(data=data)) or ():
                    session.pending.add(piece)
            else:
                session.close_file()
                session.http.send(h11.EndOfMessage())
        session.busy = False
        if session.http.our_state is h11.MUST_CLOSE:
            session.ended = True
        return True

    def _now(self) -> str:
        # once per second is enough
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, email.utils.formatdate(second, usegmt=True))
        return self._date[1]


class _Session:
    """One connection."""

    __slots__ = ("busy", "ended", "file", "http", "left", "offset", "pending", "request", "unconsumed")

    def __init__(self) -> None:
        self.http = h11.Connection(h11.SERVER)
        self.pending = Pending()
        self.request: h11.Request | None = None
        self.file: int | None = None
        self.offset = 0
        self.left = 0             # bytes of the file still to send
        self.unconsumed = 0       # received, not yet consumed: held back while a response is under way
        self.busy = False         # a response is under way
        self.ended = False        # close when it has been sent

    def close_file(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None
