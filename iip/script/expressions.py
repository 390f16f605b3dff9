"""Expressions of the language: the arguments and results of calls."""
from __future__ import annotations

from typing import Any

from iip.script.scanner import Scanner, number
from iip.script.syntax import ANY, Array, Call, Operation, Struct, Word

_NUMBER = r"0[xX][0-9a-fA-F]+(?![\w.])|\d+(?![\w.])"
_FLOAT = r"\d*\.\d+(?!\.)|\d+\.(?!\.)"
_NAME = r"[A-Za-z_]\w*"
_PRECEDENCE = [("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<<", ">>"), ("+", "-"), ("*", "/", "%")]


def expression(s: Scanner, level: int = 0) -> Any:
    """Binary operators, the loosest first."""
    if level == len(_PRECEDENCE):
        return _unary(s)
    left = expression(s, level + 1)
    while (operator := _operator(s, _PRECEDENCE[level])) is not None:
        left = Operation(operator, left, expression(s, level + 1))
    return left


def _operator(s: Scanner, choices: tuple[str, ...]) -> str | None:
    """The operator here. Arithmetic must stand on the line of its left side: `+` and `*` begin the next event, too."""
    line = s.line(s.at - 1)
    s.skip()
    for choice in choices:
        if s.line() != line and choice[0] in "+-*/%<>":
            return None
        if not s.text.startswith(choice, s.at):
            continue
        if len(choice) == 1 and s.text[s.at:s.at + 2] in ("||", "&&", "<<", ">>", "%{", "}%"):
            continue
        s.at += len(choice)
        return choice
    return None


def _unary(s: Scanner) -> Any:
    if s.match(r"\.\.\."):
        return ANY
    s.match(r"&(?=[A-Za-z_])")    # an address: of what stands there
    for operator in "-~!":
        if s.match(rf"{operator}(?!=)"):
            value = _unary(s)
            return -value if operator == "-" and isinstance(value, (int, float)) else Operation(operator, None, value)
    return _primary(s)


def _primary(s: Scanner) -> Any:
    text = s.string()
    if text is not None:
        while (more := s.string()) is not None:
            text += more
        return text
    if found := s.match(r"'(\\?.)'"):
        return ord(found[1][-1])
    if found := s.match(_FLOAT):
        return float(found[0])
    if found := s.match(_NUMBER):
        return number(found[0])
    if found := s.match(_NAME):
        return Call(found[0], tuple(arguments(s))) if s.take("(") else Word(found[0])
    if s.take("("):
        value = expression(s)
        s.expect(")")
        return value
    if s.take("["):
        return Array(tuple(_list(s, "]")))
    if s.take("{"):
        return _struct(s)
    return s.error("a value")


def _list(s: Scanner, end: str) -> list[Any]:
    items: list[Any] = []
    while not s.take(end):
        if items:
            s.expect(",")
            if s.take(end):
                break
        items.append(expression(s))
    return items


def arguments(s: Scanner) -> list[Any]:
    """What stands between the parentheses, the opening one already taken."""
    return _list(s, ")")


def _struct(s: Scanner) -> Struct:
    members: list[tuple[str | int, Any]] = []
    while not s.take("}"):
        if members:
            s.expect(",")
            if s.take("}"):
                break
        found = s.match(r"\.?([A-Za-z_][\w.]*)\s*(?:\(([^()]*)\))?\s*(?:=(?!=)|:)")
        name: str | int = found[1] if found else len(members)
        members.append((name, expression(s)))
    return Struct(tuple(members))
