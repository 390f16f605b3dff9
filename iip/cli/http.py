"""`iip http`: a client for HTTP and HTTPS through a TAP or TUN device."""
from __future__ import annotations

import hashlib
import http.client
import ssl
import sys
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import click

from iip.cli.common import device_options, emit, errors, json_option, stack_on_device
from iip.cli.nc import nameserver_option
from iip.socket import Stack, installed

_CHUNK = 1 << 16
_REDIRECTS = 10
_MOVED = (301, 302, 303, 307, 308)


@click.command()
@click.argument("url")
@device_options
@nameserver_option
@click.option("-X", "--request", "method", help="Method; by default GET, or POST with --data.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Repeat for more.")
@click.option("-d", "--data", help="Body; @FILE is the content of a file, @- standard input.")
@click.option("-L", "--location", is_flag=True, help="Follow redirections.")
@click.option("-i", "--include", is_flag=True, help="Show status and header fields, on standard error.")
@click.option("-k", "--insecure", is_flag=True, help="Do not check the certificate.")
@click.option("--cacert", type=click.Path(exists=True), help="Certificates to trust.")
@click.option("-o", "--output", metavar="FILE", help="Write the body there instead of standard output.")
@click.option("--timeout", type=click.FloatRange(0.001), default=30.0, show_default=True, help="Seconds without a byte.")
@json_option
@errors
def http_(url: str, nameservers: tuple[str, ...], method: str | None, headers: tuple[str, ...], data: str | None, location: bool,
          include: bool, insecure: bool, cacert: str | None, output: str | None, timeout: float, as_json: bool,
          **device: Any) -> None:
    """Request URL (http or https) with a TCP/IP stack of our own, the standard library's client on top.

    Exit code 1 unless the status is 2xx or 3xx.
    """
    fields = [_field(header) for header in headers]
    body = _body(data)
    start = time.monotonic()
    with stack_on_device(Stack, nameservers=nameservers, **device) as stack, installed(stack):
        try:
            for _ in range(_REDIRECTS):
                connection, answer = _ask(url, method or ("GET" if body is None else "POST"), fields, body, timeout,
                                          _context(insecure, cacert))
                where = answer.getheader("Location")
                if not location or answer.status not in _MOVED or where is None:
                    break
                if answer.status == 303 or (answer.status in (301, 302) and body is not None):
                    method, body = "GET", None
                connection.close()
                url = urljoin(url, where)
            else:
                raise click.ClickException(f"more than {_REDIRECTS} redirections")
            if include:
                click.echo(f"HTTP/1.1 {answer.status} {answer.reason}\n{answer.headers}", err=True, nl=False)
            size, digest = _copy(answer, output, as_json)
            connection.close()
        except http.client.HTTPException as error:
            raise click.ClickException(f"{url}: not a complete answer: {error!r}") from None
    if as_json:
        emit({"url": url, "status": answer.status, "headers": dict(answer.headers), "bytes": size, "sha256": digest,
              "seconds": time.monotonic() - start}, True, "")
    if not 200 <= answer.status < 400:
        raise SystemExit(1)


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"--header {text!r}: write it like 'Accept: text/plain'")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes | None:
    if data is None or not data.startswith("@"):
        return None if data is None else data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    with open(data[1:], "rb") as file:
        return file.read()


def _context(insecure: bool, cacert: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cacert)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _ask(url: str, method: str, fields: list[tuple[str, str]], body: bytes | None, timeout: float,
         context: ssl.SSLContext) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError(f"{url}: write it like http://10.0.0.1:8000/path")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request(method, target, body, {"User-Agent": "iip", "Accept": "*/*", **dict(fields)})
    return connection, connection.getresponse()


def _copy(answer: http.client.HTTPResponse, output: str | None, as_json: bool) -> tuple[int, str]:
    """The body to where it is wanted; its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    sink: Any = open(output, "wb") if output else None if as_json else sys.stdout.buffer  # noqa: SIM115
    try:
        while data := answer.read(_CHUNK):
            size += len(data)
            digest.update(data)
            if sink is not None:
                sink.write(data)
        if answer.length:         # what the header said and did not come
            raise http.client.IncompleteRead(b"", answer.length)
        if sink is not None:
            sink.flush()
    finally:
        if output:
            sink.close()
    return size, digest.hexdigest()
