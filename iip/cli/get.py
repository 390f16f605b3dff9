"""`iip get`: fetch a URL over HTTP/1.1 through a network device."""
from __future__ import annotations

import hashlib
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import click

from iip import Connection, Handler, Payload, Reason
from iip.cli.common import device_options, emit, errors, json_option, open_engine, progress, size_text
from iip.cli.ping import resolve
from iip.runtime.loop import run


class _Fetcher(Handler):
    """One request on one connection."""

    def __init__(self, host: str, target: str, sink: Any) -> None:
        import h11

        self.h11: Any = h11
        self.http = h11.Connection(h11.CLIENT)
        self.request = h11.Request(method="GET", target=target,
                                   headers=[("Host", host), ("User-Agent", "iip"), ("Connection", "close")])
        self.sink = sink
        self.status: int | None = None
        self.expected: int | None = None
        self.bytes = 0
        self.sha256 = hashlib.sha256()
        self.complete = False
        self.problem: str | None = None
        self.closed = False

    def tcp_connected(self, conn: Connection) -> None:
        conn.send(self.http.send(self.request) + self.http.send(self.h11.EndOfMessage()))

    def tcp_payload(self, conn: Connection, data: Payload) -> None:
        self.http.receive_data(bytes(data))
        conn.consume(len(data))
        self._events(conn)

    def tcp_shutdown(self, conn: Connection) -> None:
        self.http.receive_data(b"")
        self._events(conn)
        conn.close()

    def tcp_closed(self, conn: Connection, reason: Reason) -> None:
        self.closed = True
        if not self.complete and self.problem is None:
            self.problem = f"the connection ended before the response did ({reason.name.lower()})"

    def _events(self, conn: Connection) -> None:
        try:
            while True:
                event = self.http.next_event()
                if event is self.h11.NEED_DATA or event is self.h11.PAUSED:
                    return
                if isinstance(event, self.h11.Response):
                    self.status = event.status_code
                    length = dict(event.headers).get(b"content-length")
                    self.expected = int(length) if length else None
                elif isinstance(event, self.h11.Data):
                    self.bytes += len(event.data)
                    self.sha256.update(event.data)
                    self.sink.write(event.data)
                elif isinstance(event, self.h11.EndOfMessage):
                    self.complete = True
                    conn.close()
                    return
                elif isinstance(event, self.h11.ConnectionClosed):
                    return
        except self.h11.RemoteProtocolError as error:
            error.__traceback__ = None        # see iip.apps.http
            self.problem = self.problem or f"the server does not speak HTTP/1.1 correctly: {error}"
            conn.abort()


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)

    def close(self):
        """Nothing to close."""


@click.command()
@click.argument("url")
@device_options
@click.option("-o", "--output", metavar="FILE", help="Write the body there; - is standard output. With --json it is "
              "only counted and hashed without this.")
@click.option("--timeout", type=click.FloatRange(0.001), default=60.0, show_default=True, help="Seconds for all of it.")
@json_option
@errors
def get(url: str, output: str | None, timeout: float, as_json: bool, **device: Any) -> None:
    """Fetch URL (http://...) with a TCP/IP stack of our own.

    Exit code 1 unless the whole body came, with a status of 2xx.
    """
    try:
        import h11  # noqa: F401
    except ImportError:
        raise click.ClickException("HTTP needs the library h11: pip install 'iip[cli]'") from None
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise click.UsageError(f"{url}: write it like http://10.0.0.1:8000/path (https is not supported)")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = resolve(parts.hostname, [6 if ":" in a else 4 for a in device["addresses"]])
    sink: Any
    if output is None or output == "-":
        sink = _Nowhere() if as_json and output is None else sys.stdout.buffer
    else:
        sink = open(output, "wb")  # noqa: SIM115
    fetcher = _Fetcher(parts.netloc.rpartition("@")[2], target, sink)
    start = time.monotonic()
    try:
        engine = open_engine(fetcher, **device)
        try:
            engine.tcp_connect(address, parts.port or 80)
            with progress(url, None, enabled=sink is not sys.stdout.buffer or output is not None) as update:
                def stop() -> bool:
                    update(fetcher.bytes, size_text(fetcher.bytes))
                    return fetcher.closed or fetcher.complete or fetcher.problem is not None
                why = run(engine, duration=timeout, stop=stop)
            seconds = time.monotonic() - start
            run(engine, duration=0.2, stop=lambda: fetcher.closed)
        finally:
            engine.close()
            engine.driver.close()
        sink.flush() if hasattr(sink, "flush") else None
    finally:
        if output not in (None, "-"):
            sink.close()
    if why == "until" and not fetcher.complete:
        fetcher.problem = f"no complete answer within {timeout} seconds; is {address} up and the route right?"
    ok = fetcher.complete and fetcher.status is not None and 200 <= fetcher.status < 300
    result = {"url": url, "address": address, "status": fetcher.status, "bytes": fetcher.bytes,
              "sha256": fetcher.sha256.hexdigest(), "seconds": seconds, "complete": fetcher.complete,
              "error": fetcher.problem}
    if as_json:
        emit(result, True, "")
    elif not ok:
        raise click.ClickException(fetcher.problem or f"{url}: status {fetcher.status}")
    elif sink is not sys.stdout.buffer:
        click.echo(f"{size_text(fetcher.bytes)} in {seconds:.2f} s", err=True)
    if not ok:
        raise SystemExit(1)
