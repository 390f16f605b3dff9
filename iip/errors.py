"""Exceptions that a user can act on. The network never raises: what it sends is counted and dropped."""


class IipError(Exception):
    """Base of all exceptions of this package."""


class ConfigError(IipError, ValueError):
    """A setting is wrong; the message names it, its range and the remedy."""


class DriverError(IipError, OSError):
    """A driver cannot be set up or failed; the message says what to do."""


class ConnectionGone(IipError, ConnectionError):
    """The handle belongs to a connection that no longer exists."""


class Exhausted(IipError, BlockingIOError):
    """A pool chosen at set-up has no room at the moment; try again after `run`."""
