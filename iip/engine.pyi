from iip.config import Config
from iip.drivers.base import Driver
from iip.memory.pool import PacketPool

API_VERSION: int

class NativeHandler: ...

class Engine:
    error: BaseException | None
    @property
    def pool(self) -> PacketPool: ...
    @property
    def config(self) -> Config: ...
    @property
    def driver(self) -> Driver: ...
    def __init__(
        self,
        config: Config,
        native: NativeHandler,
        driver: Driver,
        pool: PacketPool | None = None,
        seed: int | None = None,
    ) -> None: ...
