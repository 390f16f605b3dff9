"""What a file server knows of HTTP beyond the framing: which file a target means, ranges, listings."""
from __future__ import annotations

import email.utils
import functools
import html
import mimetypes
import os
import re
import stat
from typing import NamedTuple
from urllib.parse import quote, unquote

CHUNK = 1 << 18                   # bytes read from a file at a time


class Body(NamedTuple):
    """A response: `file` is an open descriptor or None, then `data` is the body; start and length say what of it."""

    status: int
    headers: list[tuple[str, str]]
    data: bytes
    file: int | None
    start: int
    length: int


def text(status: int, message: str, *headers: tuple[str, str]) -> Body:
    data = (message + "\n").encode()
    return Body(status, [("Content-Type", "text/plain; charset=utf-8"), *headers], data, None, 0, len(data))


def locate(root: str, target: str) -> str | None:
    """The path below `root` that a request target means, or None if it is above or senseless. Links may still lead out."""
    path = unquote(target.split("?", 1)[0].split("#", 1)[0])
    if not path.startswith("/") or "\0" in path:
        return None
    path = os.path.normpath(path.lstrip("/") or ".")
    return None if path.split(os.sep, 1)[0] == os.pardir else os.path.join(root, path)


def real_path(fd: int, path: str) -> str:
    """Where a file that was opened as `path` is, whatever links led to it."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")     # of this very file: nobody can put another in its place meanwhile
    except OSError:
        return os.path.realpath(path)


def respond(root: str, target: str, headers: dict[bytes, bytes], listing: bool = True) -> Body:
    """The answer to a GET or HEAD of `target` below `root`, a real path. The caller closes the file of the body."""
    path = locate(root, target)
    if path is None:
        return text(404, "not found")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return text(403, "forbidden") if isinstance(error, PermissionError) else text(404, "not found")
    path = real_path(fd, path)
    if path != root and not path.startswith(root.rstrip(os.sep) + os.sep):
        os.close(fd)
        return text(404, "not found")
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode):
        return _file(fd, path, info, headers)
    os.close(fd)
    if not stat.S_ISDIR(info.st_mode):
        return text(403, "not a file")
    where = target.split("?", 1)[0]
    if not where.endswith("/"):
        # a path that begins with two slashes would name another host
        return text(301, "moved", ("Location", "/" + where.lstrip("/") + "/"))
    index = os.path.join(path, "index.html")
    if os.path.isfile(index):
        return respond(root, where + "index.html", headers, listing)
    return _listing(path, where) if listing else text(403, "no listing")


def _file(fd: int, path: str, info: os.stat_result, headers: dict[bytes, bytes]) -> Body:
    modified = http_date(int(info.st_mtime))
    common = [("Content-Type", _media_type(os.path.basename(path))), ("Last-Modified", modified), ("Accept-Ranges", "bytes")]
    wanted = headers.get(b"range")
    if wanted is not None and headers.get(b"if-range", modified.encode()) == modified.encode():
        found = parse_range(wanted.decode("latin-1"), info.st_size)
        if found == "unsatisfiable":
            os.close(fd)
            return text(416, "range not satisfiable", ("Content-Range", f"bytes */{info.st_size}"))
        if isinstance(found, tuple):
            first, last = found
            return Body(206, [*common, ("Content-Range", f"bytes {first}-{last}/{info.st_size}")], b"", fd, first,
                        last - first + 1)
    return Body(200, common, b"", fd, 0, info.st_size)


@functools.lru_cache(1024)
def http_date(seconds: int) -> str:
    """A time as fields write it (RFC 9110 §5.6.7)."""
    return email.utils.formatdate(seconds, usegmt=True)


@functools.lru_cache(1024)
def _media_type(name: str) -> str:
    kind, encoding = mimetypes.guess_type(name)
    return "application/octet-stream" if kind is None or encoding else kind


def parse_range(value: str, size: int) -> tuple[int, int] | str | None:
    """The single range of a Range field (RFC 9110 §14.1.2) as (first, last); "unsatisfiable"; None for what may be
    ignored: other units, several ranges, bad syntax."""
    match = re.fullmatch(r"bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", value, re.IGNORECASE | re.ASCII)
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if first == "":
        n = min(int(last), size)
        return (size - n, size - 1) if n else "unsatisfiable"
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return "unsatisfiable"
    return int(first), min(int(last), size - 1) if last else size - 1


def _listing(path: str, where: str) -> Body:
    lines = []
    try:
        entries = sorted(os.scandir(path), key=lambda e: e.name)
    except OSError:
        return text(403, "forbidden")
    for entry in entries:
        name = entry.name + ("/" if entry.is_dir() else "")
        lines.append(f'<li><a href="./{quote(name, errors="surrogateescape")}">{html.escape(name)}</a></li>')
    title = html.escape(unquote(where))
    page = "\n".join([f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>", *lines,
                      "</ul>\n"])
    data = page.encode("utf-8", "surrogateescape")
    return Body(200, [("Content-Type", "text/html; charset=utf-8")], data, None, 0, len(data))
