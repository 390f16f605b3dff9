import sys
from typing import Any

from typing_extensions import disjoint_base

@disjoint_base
class Window:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
