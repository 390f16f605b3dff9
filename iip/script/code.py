"""`%{ }%` blocks: Python that sees what is known about the connection."""
from __future__ import annotations

import functools
import io
import re
import textwrap
import traceback
from typing import TYPE_CHECKING, Any

from iip.script.constants import symbols
from iip.script.errors import Mismatch, ScriptSyntaxError, Unsupported
from iip.script.info import info_values
from iip.script.sockets import TcpSocket

if TYPE_CHECKING:
    from iip.script.runner import Runner

_NAMES = re.compile(r"(?:TCP_[A-Z]|TCPS_|TCPI_)")


def watched(runner: Runner) -> TcpSocket | None:
    """The connection that a block is about: the latest that was accepted or opened."""
    return runner.latest_tcp


def names(runner: Runner) -> dict[str, Any]:
    s = watched(runner)
    space: dict[str, Any] = {k: v for k, v in symbols(runner.settings.personality).items() if _NAMES.match(k)}
    if s is not None:
        space.update(info_values(runner, s))
    return space


def _compile(text: str, line: int) -> Any:
    """The block's code. Old `print x` statements are understood, too."""
    first, newline, rest = text.partition("\n")
    body = first.strip() + newline + textwrap.dedent(rest).rstrip()
    try:
        return compile("\n" * (line - 1) + body, "<script>", "exec")
    except SyntaxError:
        newer = re.sub(r"^(\s*)print\s+(?!\()(.*)$", r"\1print(\2)", body, flags=re.MULTILINE)
        try:
            return compile("\n" * (line - 1) + newer, "<script>", "exec")
        except SyntaxError as error:
            raise ScriptSyntaxError(f"the block of Python: {error.msg}", line) from None


def run_code(runner: Runner, text: str, line: int) -> None:
    """Run a block now. What it prints is kept; an assertion that does not hold is a mismatch."""
    code = _compile(text, line)
    space = names(runner)
    runner.python.update(space)
    out = io.StringIO()
    runner.python["print"] = functools.partial(print, file=out)
    try:
        exec(code, runner.python)     # noqa: S102
    except AssertionError as error:
        raise Mismatch(f"the assertion does not hold{f': {error}' if str(error) else ''}", _line(error, line),
                       expected=_source(text, line, _line(error, line)), actual=_values(text, space)) from None
    except NameError as error:
        name = str(error).split("'")[1] if "'" in str(error) else str(error)
        raise Unsupported(f"the name {name} in a block of Python", line) from None
    except Exception as error:
        raise Mismatch(f"the block of Python raised {type(error).__name__}: {error}", line) from None
    finally:
        runner.output += out.getvalue().splitlines()


def _line(error: BaseException, line: int) -> int:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == "<script>"]
    return frames[-1].lineno or line if frames else line


def _source(text: str, line: int, at: int) -> str:
    rows = text.split("\n")
    return rows[min(max(at - line, 0), len(rows) - 1)].strip()


def _values(text: str, space: dict[str, Any]) -> str:
    used = [name for name in dict.fromkeys(re.findall(r"tcpi_\w+", text)) if name in space]
    return ", ".join(f"{name} = {space[name]}" for name in used)
