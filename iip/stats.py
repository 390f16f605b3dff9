"""The counters of an engine as one structure."""
from __future__ import annotations

from iip.verdict import Verdict

NAMES = tuple(v.name for v in Verdict if v.name not in ("ok", "consumed", "N_VERDICTS"))


class Stats(dict[str, int]):
    """Counter name -> value, at one moment. Names say what happened (see `iip/verdict.pxd`)."""

    def nonzero(self) -> dict[str, int]:
        """The counters that counted something."""
        return {name: value for name, value in self.items() if value}

    def __sub__(self, earlier: dict[str, int]) -> Stats:
        """What happened since `earlier`."""
        return Stats({name: value - earlier.get(name, 0) for name, value in self.items()})
