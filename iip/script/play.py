"""Whole scripts: from a file to a result, one or many."""
from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from iip.script.errors import Mismatch, ScriptError, ScriptSyntaxError, Unsupported
from iip.script.parser import parse
from iip.script.runner import Runner
from iip.script.settings import Settings

PASSED, FAILED, UNSUPPORTED = "passed", "failed", "unsupported"
_FREEBSD_SIGNS = ("net.inet.", "kldload", "TCP_FUNCTION_BLK", "TCP_NOPUSH", "nop,wscale 6,sackOK", "kern.ipc.")


@dataclass
class Result:
    """What became of one run of a script."""

    path: str
    version: str
    outcome: str
    message: str = ""
    line: int = 0
    source: str = ""                  # the line of the script
    expected: str = ""
    actual: str = ""
    packets: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    lacks: str = ""
    ignored: list[str] = field(default_factory=list)
    seconds: float = 0.0
    virtual_seconds: float = 0.0

    def report(self) -> str:
        """For people: the line, what was expected, what came, the last packets."""
        where = f"{self.path}:{self.line}" if self.line else self.path
        lines = [f"{where}: {self.outcome}: {self.message}"]
        if self.source:
            lines.append(f"    script:   {self.source}")
        if self.expected:
            lines.append(f"    expected: {self.expected}")
        if self.actual:
            lines.append(f"    actual:   {self.actual}")
        if self.packets:
            lines += ["    the last packets:", *(f"      {packet}" for packet in self.packets)]
        return "\n".join(lines)


def guess_personality(text: str) -> str:
    """The system that a script was written for, by names that only one of them has."""
    return "freebsd" if any(sign in text for sign in _FREEBSD_SIGNS) else "linux"


def play_text(text: str, path: str = "<script>", *, personality: str = "auto", version: str | None = None,
              options: list[tuple[str, str]] | None = None, seed: int = 1) -> Result:
    """Run the script in `text`. `options` are pairs as on the language's own command line; they win over the script's."""
    begin = time.perf_counter()
    result = Result(path, version or "4", PASSED)
    runner = None
    try:
        script = parse(text, path)
        settings = Settings(personality=guess_personality(text) if personality == "auto" else personality,
                            version=version or "4")
        script.options = [o for o in script.options if not (version and o[0].replace("-", "_") == "ip_version")]
        script.options += [(name, value, 0) for name, value in options or ()]
        runner = Runner(script, settings, seed)
        result.version = settings.version
        runner.play()
    except ScriptError as error:
        _note(result, error, text)
        if runner is not None and isinstance(error, Mismatch):
            result.packets = runner.dump()
    except Exception as error:       # one script must not end the others
        result.outcome, result.message = FAILED, f"the interpreter failed: {type(error).__name__}: {error}"
    finally:
        if runner is not None:
            result.output, result.ignored = runner.output, runner.settings.ignored
            result.virtual_seconds = runner.stack.now / 1e6
            runner.close()
    result.seconds = time.perf_counter() - begin
    return result


def _note(result: Result, error: ScriptError, text: str) -> None:
    result.outcome = UNSUPPORTED if isinstance(error, Unsupported) else FAILED
    result.message, result.line = error.message, error.line
    if isinstance(error, ScriptSyntaxError):
        result.message = f"not understood: {error.message}"
    if isinstance(error, Unsupported):
        result.lacks = error.lacks
    result.expected, result.actual = error.expected, error.actual
    rows = text.split("\n")
    if 0 < error.line <= len(rows):
        result.source = rows[error.line - 1].strip()


def play_file(path: Path, **arguments: Any) -> Result:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Result(str(path), arguments.get("version") or "4", FAILED, f"cannot be read: {error.strerror}")
    return play_text(text, str(path), **arguments)


def find_scripts(paths: list[Path]) -> list[Path]:
    """The files, and of directories every *.pkt below them, in order."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("*.pkt")) if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def _play_job(job: tuple[Path, dict[str, Any]]) -> Result:
    return play_file(job[0], **job[1])


def play_many(jobs: list[tuple[Path, dict[str, Any]]], workers: int = 1) -> list[Result]:
    """Results in the order of the jobs. Each script has an engine of its own; workers are processes."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        return [_play_job(job) for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_play_job, jobs, chunksize=max(1, len(jobs) // (8 * workers))))
