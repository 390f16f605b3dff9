"""Expressions evaluated: numbers by name, addresses by struct, and what a call returned against what is expected."""
from __future__ import annotations

import errno
import ipaddress
import operator
import socket
from collections.abc import Callable
from typing import Any

from iip.script.errors import Unsupported
from iip.script.syntax import ANY, Array, Call, Operation, Struct, Word

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "|": operator.or_, "&": operator.and_, "^": operator.xor, "<<": operator.lshift, ">>": operator.rshift,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv, "%": operator.mod,
    "==": operator.eq, "!=": operator.ne, "||": lambda a, b: int(bool(a or b)), "&&": lambda a, b: int(bool(a and b)),
}


class Values:
    """Evaluates with the names of one personality and the definitions of one run."""

    def __init__(self, symbols: dict[str, int], defines: dict[str, Any] | None = None):
        self.symbols = symbols
        self.defines = defines or {}

    def __call__(self, value: Any) -> Any:
        """ints, floats, strings and ANY as they are; names and operations by value; structs and arrays by member."""
        if isinstance(value, Word):
            return self._word(value.name)
        if isinstance(value, Operation):
            return self._operation(value)
        if isinstance(value, Call):
            return self._call(value)
        if isinstance(value, Array):
            return [self(item) for item in value.items]
        if isinstance(value, Struct):
            return Struct(tuple((name, self(item)) for name, item in value.members))
        return value

    def _word(self, name: str) -> Any:
        if name in self.defines:
            return self.defines[name]
        if name not in self.symbols and hasattr(errno, name):
            return getattr(errno, name)
        if name not in self.symbols:
            raise Unsupported(f"the name {name}")
        return self.symbols[name]

    def _operation(self, value: Operation) -> Any:
        right = self(value.right)
        if value.left is None:
            return ~right if value.operator == "~" else -right if value.operator == "-" else int(not right)
        left = self(value.left)
        if left is ANY or right is ANY:
            return ANY
        return _OPERATORS[value.operator](left, right)

    def _call(self, value: Call) -> Any:
        args = [self(argument) for argument in value.arguments]
        if value.name in ("htons", "ntohs", "htonl", "ntohl", "__constant_htons"):
            return args[0]            # ports and addresses are kept in host order
        if value.name in ("inet_addr", "inet_pton"):
            return ipaddress.ip_address(args[-1])
        if value.name == "sizeof":
            return ANY
        raise Unsupported(f"the function {value.name}()")


def matches(expected: Any, actual: Any) -> bool:
    """Whether what came is what the script says. Numbers may differ by how 32 bits are signed."""
    if expected is ANY or actual is ANY:
        return True
    if isinstance(expected, tuple):
        return bool(expected[0] <= actual <= expected[1])
    if isinstance(expected, Struct) and isinstance(actual, dict):
        names = list(actual)
        return all(matches(value, actual.get(names[name] if isinstance(name, int) and name < len(names) else name, value))
                   for name, value in expected.members)
    if isinstance(expected, list) and isinstance(actual, (list, tuple)):
        return len(expected) == len(actual) and all(map(matches, expected, actual))
    if isinstance(expected, list) and len(expected) == 1:
        return matches(expected[0], actual)
    if isinstance(expected, (str, bytes)) and isinstance(actual, (str, bytes)):
        return _bytes(expected).rstrip(b"\0") == _bytes(actual).rstrip(b"\0")
    if isinstance(expected, int) and isinstance(actual, int):
        return expected == actual or (expected & 0xFFFFFFFF == actual & 0xFFFFFFFF and min(expected, actual) < 0)
    return bool(expected == actual)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


def socket_address(value: Any, symbols: dict[str, int]) -> tuple[Any, int, int] | None:
    """(address, port, family) of a struct sockaddr_in or sockaddr_in6; None for `...`."""
    if value is ANY or value in (0, None):
        return None
    if not isinstance(value, Struct):
        raise Unsupported(f"the address {value!r}")
    family = value.get("sa_family", "sin_family", "sin6_family", 0, default=socket.AF_INET)
    port = value.get("sin_port", "sin6_port", 1, default=0)
    address = value.get("sin_addr", "sin6_addr", 2, default=0)
    if isinstance(address, Struct):
        address = address.get("s_addr", 0, default=0)
    if isinstance(address, int):
        address = ipaddress.IPv4Address(address) if family == symbols["AF_INET"] else ipaddress.IPv6Address(address)
    elif isinstance(address, str):
        address = ipaddress.ip_address(address)
    return address, port if isinstance(port, int) else 0, family
