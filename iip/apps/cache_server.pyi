from typing_extensions import Self

from iip.engine import NativeHandler

class CacheServer(NativeHandler):
    @property
    def clients(self) -> int: ...
    @property
    def total_clients(self) -> int: ...
    def __new__(cls, memory: int = 67108864, max_item: int = 1048576) -> Self: ...
