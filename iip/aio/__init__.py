"""iip in asyncio: the same calls, another network underneath."""
from iip.aio.datagram import DatagramTransport
from iip.aio.names import ANY_PORT, StackSocket
from iip.aio.server import Server
from iip.aio.stack import Stack
from iip.aio.transport import StreamTransport
from iip.aio.tunnel import Tunnel

__all__ = ["ANY_PORT", "DatagramTransport", "Server", "Stack", "StackSocket", "StreamTransport", "Tunnel"]
