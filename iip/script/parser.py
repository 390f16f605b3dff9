"""From text to `Script`."""
from __future__ import annotations

import re
from typing import Any

from iip.script.errors import ScriptError
from iip.script.expressions import arguments, expression
from iip.script.packet_grammar import packet
from iip.script.scanner import Scanner
from iip.script.syntax import ANY, CallEvent, CodeEvent, Event, PacketEvent, Script, ShellEvent, Time, Word

_SECONDS = r"(?:\d+\.\d+|\.\d+|\d+\.(?!\.)|\d+)(?:[eE][-+]?\d+)?(?:us?(?![\w(])|ms?(?![\w(])|s(?![\w(]))?"
_ERRNO = r"(E[A-Z0-9]+)\b"


def parse(text: str, path: str = "") -> Script:
    """The script in `text`. Raises ScriptSyntaxError, or Unsupported for constructs that the stack lacks."""
    s = Scanner(text, path)
    script = Script(path)
    if text.startswith("#!"):
        s.at = text.find("\n") + 1 or len(text)
    while s.peek(r"--[A-Za-z]") or s.peek(r"`"):
        if s.take("`"):
            script.init.append((s.until("`", "a command"), s.line()))
        else:
            _option_line(s, script)
    while not s.done():
        script.events.append(_event(s))
    return script


def _option_line(s: Scanner, script: Script) -> None:
    line = s.line()
    end = s.text.find("\n", s.at)
    text = s.text[s.at:end if end >= 0 else len(s.text)]
    s.at += len(text)
    text = re.sub(r"(?:^|\s)(//|#).*|/\*.*?\*/", "", text)
    words = text.split()
    for i, word in enumerate(words):
        if not word.startswith("--"):
            if i == 0 or "=" in words[i - 1] or not script.options:
                s.at -= len(text)
                s.error("an option like --name=value")
            name, _, _ = script.options.pop()
            script.options.append((name, word.strip("\"'"), line))
            continue
        name, sign, value = word[2:].partition("=")
        script.options.append((name, value.strip("\"'") if sign else None, line))


# -- events ------------------------------------------------------------------------------------------------

def _event(s: Scanner) -> Event:
    s.skip()
    start = s.at
    line = s.line()
    time = _time(s)
    try:
        body = _body(s)
    except ScriptError as error:
        error.line = error.line or line
        raise
    source = re.sub(r"\s+", " ", s.text[start:s.at]).strip()
    return Event(line, time, body, source)


def _body(s: Scanner) -> Any:
    if s.take("`"):
        return ShellEvent(s.until("`", "a command"))
    if s.take("%{"):
        return CodeEvent(s.until("}%", "a block of Python"))
    if found := s.match(r"[<>]"):
        return _packet_event(s, found[0])
    if found := s.match(r"([A-Za-z_]\w*)\s*\("):
        return _call(s, found[1])
    return s.error("a packet, a call, a command or a block of Python")


def _packet_event(s: Scanner, direction: str) -> PacketEvent:
    return packet(s, direction)


def _seconds(text: str) -> int:
    """Microseconds."""
    found = re.match(r"(.*?)(us?|ms?|s)?$", text)
    assert found
    unit = {"u": 1, "us": 1, "m": 1000, "ms": 1000}.get(found[2] or "s", 1_000_000)
    return round(float(found[1]) * unit)


def _time(s: Scanner) -> Time:
    if s.match(r"\*"):
        return Time(any_time=True)
    found = s.match(rf"(\+\s*)?({_SECONDS})")
    if not found:
        if s.peek(r"[<>`%]|[a-z_]\w*\s*\("):
            return Time(relative=True)          # no time: right after the event before
        s.error("a time")
    relative, start = bool(found[1]), _seconds(found[2])
    end = until = None
    if s.take("~"):
        more = s.match(rf"(\+\s*)?({_SECONDS})")
        if not more:
            s.error("the end of a range of times")
        end = _seconds(more[2])
    if s.match(r"\.\.\."):
        more = s.match(rf"(\+\s*)?({_SECONDS})")
        if not more:
            s.error("the time at which the call returns")
        until = _seconds(more[2])
    return Time(start, end, relative, False, until)


# -- calls -------------------------------------------------------------------------------------------------

def _call(s: Scanner, name: str) -> CallEvent:
    args = tuple(arguments(s))
    result: Any = None
    errno, note = None, ""
    if s.match(r"=(?!=)"):
        result = ANY if s.match(r"\?") else expression(s)
        if s.take("~") or s.match(r"\.\."):
            result = (result, expression(s))
        if found := s.match(_ERRNO):
            errno = found[1]
        elif isinstance(result, Word) and re.fullmatch(_ERRNO, result.name) and not result.name.startswith("EPOLL"):
            errno, result = result.name, -1
        if s.take("("):
            note = s.balanced()
    elif s.match(r"(?=[<>])"):
        s.error("'='")
    s.take(";")
    return CallEvent(name, args, result, errno, note)
