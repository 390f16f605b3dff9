"""An echo server for iip, compiled."""
from iip_echo.handler import Echo

__all__ = ["Echo"]
