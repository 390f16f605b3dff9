"""Why a connection is over or cannot be made, as the kernel's sockets would say it."""
from __future__ import annotations

import errno
import os

from iip.connection import Reason
from iip.errors import ConfigError, Exhausted

_ERRNO = {
    Reason.RESET: errno.ECONNRESET, Reason.REFUSED: errno.ECONNREFUSED, Reason.TIMEOUT: errno.ETIMEDOUT,
    Reason.ABORTED: errno.ECONNABORTED, Reason.UNREACHABLE: errno.EHOSTUNREACH, Reason.REJECTED: errno.ECONNRESET,
    Reason.NO_MEMORY: errno.ENOBUFS,
}


def os_error(code: int, what: str = "") -> OSError:
    """An OSError of the class that belongs to `code`."""
    return OSError(code, f"{os.strerror(code)}{f': {what}' if what else ''}")


def closed_error(reason: Reason, what: str = "") -> OSError | None:
    """What `connection_lost` is given; None for an orderly end."""
    return None if reason == Reason.NORMAL else os_error(_ERRNO[reason], what)


def open_error(error: Exception, what: str) -> OSError:
    """For an exception of `Engine.tcp_connect`."""
    if isinstance(error, ConfigError):
        code = errno.EADDRINUSE if "source_port=" in str(error) else errno.ENETUNREACH
    elif isinstance(error, Exhausted):
        code = errno.EADDRNOTAVAIL if "port" in str(error) else errno.ENOBUFS
    else:
        code = errno.EINVAL
    return OSError(code, f"{what}: {error}")
