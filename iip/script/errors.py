"""What a script can end with, other than passing."""
from __future__ import annotations


class ScriptError(Exception):
    """A script that cannot be understood, or that was not met. `line` is 1-based; 0: of no line."""

    def __init__(self, message: str, line: int = 0, *, expected: str = "", actual: str = ""):
        super().__init__(message)
        self.message, self.line = message, line
        self.expected, self.actual = expected, actual


class ScriptSyntaxError(ScriptError):
    """The text is not a script."""


class Unsupported(ScriptError):
    """The script asks for something that the stack or the interpreter lacks; `lacks` names it."""

    def __init__(self, lacks: str, line: int = 0):
        super().__init__(f"lacks {lacks}", line)
        self.lacks = lacks


class Mismatch(ScriptError):
    """The stack did not do what the script says."""


class CallFailed(Exception):
    """A socket call ended with an errno, by its symbol."""

    def __init__(self, errno: str):
        super().__init__(errno)
        self.errno = errno


class WouldBlock(Exception):
    """A blocking call has nothing to return yet; `timeout`: µs that it may wait, None: for ever."""

    def __init__(self, timeout: int | None = None):
        super().__init__(timeout)
        self.timeout = timeout
