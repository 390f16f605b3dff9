"""Devices in other network namespaces of Linux."""
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator

from iip.errors import DriverError

DIRECTORY = "/run/netns"          # where `ip netns` keeps the named ones
_CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def namespace(name: str | None) -> Iterator[None]:
    """Put this thread into the network namespace `name` (of `ip netns`) for a while; None: stay.

    Devices opened there remain usable afterwards. Raises `DriverError`.
    """
    if name is None:
        yield
        return
    path = os.path.join(DIRECTORY, name)
    try:
        there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DriverError(f"there is no network namespace {name!r}; make it with `ip netns add {name}`") from None
    except PermissionError:
        raise DriverError(f"no permission to open {path}; run as root") from None
    try:
        with _return():
            _call("setns", there, doing=f"enter the network namespace {name}")
            yield
    finally:
        os.close(there)


@contextlib.contextmanager
def private() -> Iterator[None]:
    """Put this thread into a network namespace of its own for a while. It lives as long as devices that were made there are
    open. Raises `DriverError`."""
    with _return():
        _call("unshare", doing="make a network namespace")
        yield


@contextlib.contextmanager
def _return() -> Iterator[None]:
    """Afterwards this thread is in the namespace that it is in now."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _call("setns", back, doing="return to the network namespace of this program")
        os.close(back)


def _call(function: str, *fd: int, doing: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        remedy = "; run as root" if code == errno.EPERM else ""
        raise DriverError(f"cannot {doing}: {os.strerror(code)}{remedy}")
