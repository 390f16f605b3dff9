from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from iip.config import Config
from iip.connection import Connection
from iip.drivers.base import Driver
from iip.engine import Engine as CoreEngine
from iip.memory.pool import PacketPool
from iip.stats import NAMES as NAMES
from iip.stats import Stats

_Address = str | bytes | IPv4Address | IPv6Address

class Engine(CoreEngine):
    @property
    def handler(self) -> Any: ...
    def __init__(
        self,
        config: Config,
        handler: object,
        driver: Driver,
        pool: PacketPool | None = None,
        seed: int | None = None,
    ) -> None: ...
    def run(self, now: int) -> int | None: ...
    def close(self) -> None: ...
    def tcp_listen(self, port: int, on: bool = True) -> None: ...
    def tcp_connect(
        self,
        address: _Address,
        port: int,
        *,
        source: _Address | None = None,
        source_port: int = 0,
        data: Buffer | None = None,
    ) -> Connection: ...
    def abort_all(self) -> int: ...
    def connections(self) -> NDArray[np.void]: ...
    def reconfigure(self, **changes: Any) -> None: ...
    @property
    def n_connections(self) -> int: ...
    def udp_bind(self, port: int) -> None: ...
    def udp_unbind(self, port: int) -> None: ...
    def udp_send(
        self,
        data: Buffer,
        address: _Address,
        port: int,
        source_port: int,
        *,
        source: _Address | None = None,
        ttl: int = 0,
        tos: int = 0,
        dont_fragment: bool = False,
    ) -> bool: ...
    def ping(
        self,
        address: _Address,
        ident: int,
        seq: int,
        data: Buffer = b"",
        *,
        source: _Address | None = None,
        ttl: int = 0,
    ) -> bool: ...
    def arp_request(self, address: _Address) -> bool: ...
    def join(self, group: _Address) -> None: ...
    def leave(self, group: _Address) -> None: ...
    def stats(self) -> Stats: ...
    @property
    def addresses(self) -> Sequence[str]: ...
    @property
    def mac(self) -> bytes: ...
