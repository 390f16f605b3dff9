"""A text and a place in it. What a word means depends on where it stands, so the parser asks by pattern."""
from __future__ import annotations

import re
from typing import NoReturn

from iip.script.errors import ScriptSyntaxError

_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/|(?:(?<=\n)|(?<![^\s]))\#[^\n]*)+", re.DOTALL)
_STRING = re.compile(r'"((?:\\.|[^"\\\n])*)"')
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b",
            "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_patterns: dict[str, re.Pattern[str]] = {}


def _pattern(text: str) -> re.Pattern[str]:
    found = _patterns.get(text)
    if found is None:
        found = _patterns[text] = re.compile(text)
    return found


def _unescape(match: re.Match[str]) -> str:
    text = match[1]
    if text[0] == "x" and len(text) > 1:
        return chr(int(text[1:], 16))
    if text[0] in "01234567" and (len(text) > 1 or text == "0"):
        return chr(int(text, 8) & 0xFF)
    return _ESCAPES.get(text, text)


class Scanner:
    def __init__(self, text: str, path: str = ""):
        self.text, self.path = text, path
        self.at = 0
        self._lines = [0] + [m.end() for m in re.finditer("\n", text)]

    def line(self, at: int | None = None) -> int:
        """The line of a place, 1-based."""
        from bisect import bisect_right
        return bisect_right(self._lines, self.at if at is None else at)

    def error(self, expected: str) -> NoReturn:
        self.skip()
        rest = self.text[self.at:self.at + 40].split("\n")[0]
        raise ScriptSyntaxError(f"expected {expected} at {rest!r}" if rest else f"expected {expected} at the end",
                                self.line())

    def skip(self) -> None:
        """Pass over blanks and comments."""
        found = _BLANK.match(self.text, self.at)
        if found:
            self.at = found.end()

    def done(self) -> bool:
        self.skip()
        return self.at >= len(self.text)

    def match(self, pattern: str) -> re.Match[str] | None:
        """What the pattern matches here, passed over; None: nothing."""
        self.skip()
        found = _pattern(pattern).match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def peek(self, pattern: str) -> re.Match[str] | None:
        self.skip()
        return _pattern(pattern).match(self.text, self.at)

    def take(self, literal: str) -> bool:
        self.skip()
        if self.text.startswith(literal, self.at):
            self.at += len(literal)
            return True
        return False

    def expect(self, literal: str) -> None:
        if not self.take(literal):
            self.error(repr(literal))

    def word(self, name: str) -> bool:
        """Take a whole word."""
        return self.match(rf"{name}\b") is not None

    def integer(self) -> int:
        found = self.match(r"[-+]?(?:0[xX][0-9a-fA-F]+|\d+)")
        if not found:
            self.error("a number")
        return number(found[0])

    def string(self) -> str | None:
        self.skip()
        found = _STRING.match(self.text, self.at)
        if not found:
            return None
        self.at = found.end()
        return _ESCAPE.sub(_unescape, found[1])

    def until(self, end: str, what: str) -> str:
        """The raw text up to `end`, which is passed over."""
        found = self.text.find(end, self.at)
        if found < 0:
            self.error(f"{end} after {what}")
        text = self.text[self.at:found]
        self.at = found + len(end)
        return text

    def balanced(self) -> str:
        """The raw text up to the bracket that closes the one just taken."""
        depth, start = 1, self.at
        while self.at < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
            self.at += 1
            if depth == 0:
                return self.text[start:self.at - 1]
        self.error("')'")


def number(text: str) -> int:
    """Decimal, 0x hexadecimal or 0 octal, with a sign."""
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits, 16)
    if len(digits) > 1 and digits[0] == "0" and not set(digits) - set("01234567"):
        return sign * int(digits, 8)
    return sign * int(digits)
