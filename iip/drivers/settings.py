"""Checks of what drivers are given, in one voice."""
from __future__ import annotations

from iip.errors import ConfigError


def in_range(name: str, value: object, low: int, high: int) -> None:
    """Raise `ConfigError` unless the setting is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r}: must be from {low} to {high}")


def station(mac: str | bytes | None) -> bytes | None:
    """The 6 bytes of a station address, or None if there is none."""
    if mac is None or (isinstance(mac, bytes) and len(mac) == 6):
        return mac
    try:
        found = bytes.fromhex(mac.replace(":", ""))      # type: ignore[arg-type]
    except (AttributeError, ValueError):
        found = b""
    if len(found) != 6:
        raise ConfigError(f"mac={mac!r}: write it like '02:00:00:00:00:01'")
    return found
