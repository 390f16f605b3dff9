"""iip: an integratable TCP/IP stack. Protocol processing, and nothing else."""
from iip._build import require_compiled

require_compiled()

from iip.batch import Batch, Event  # noqa: E402
from iip.config import Config  # noqa: E402
from iip.connection import Connection, Reason, State  # noqa: E402
from iip.control import CongestionControl  # noqa: E402
from iip.errors import ConfigError, ConnectionGone, DriverError, Exhausted, IipError  # noqa: E402
from iip.events import AckSample, ArpReply, Conflict, Datagram, IcmpError, IcmpReply, RouterAdvertisement, Syn  # noqa: E402
from iip.facade import Engine  # noqa: E402
from iip.handler import Handler  # noqa: E402
from iip.info import TcpInfo  # noqa: E402
from iip.memory.pool import PacketPool  # noqa: E402
from iip.payload import Payload  # noqa: E402
from iip.runtime.tunnel import Tunnel  # noqa: E402
from iip.stats import Stats  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "AckSample", "ArpReply", "Batch", "Config", "ConfigError", "Conflict", "CongestionControl", "Connection",
    "ConnectionGone", "Datagram", "DriverError", "Engine", "Event", "Exhausted", "Handler", "IcmpError", "IcmpReply",
    "IipError", "PacketPool", "Payload", "Reason", "RouterAdvertisement", "State", "Stats", "Syn", "TcpInfo", "Tunnel",
]
