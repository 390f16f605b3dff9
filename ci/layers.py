"""Imports go downwards only: check every import and cimport below iip/ and print the lines that climb.

    python ci/layers.py [directory that holds iip/]

The layers are docs/architecture.md's. A module may use its own layer and those below it; within tcp, output
reaches input by no path of imports.
"""
from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Longest name wins; modules of equal rank may use each other.
LAYERS = [
    ["iip._build", "iip.errors", "iip.verdict", "iip.wire"],
    ["iip.memory"],
    ["iip.net", "iip.drivers.base"],    # what a driver has to offer is what the engine asks for
    ["iip.tcp"],
    ["iip.engine"],
    ["iip.address", "iip.batch", "iip.config", "iip.connection", "iip.control", "iip.events", "iip.facade", "iip.handler",
     "iip.info", "iip.payload", "iip.stats"],
    ["iip.drivers"],
    ["iip.runtime", "iip.apps", "iip.aio", "iip.autoconf", "iip.dhcp", "iip.dhcp6", "iip.socket"],
    ["iip.sim", "iip.script"],
    ["iip.cli"],
]
RANK = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
ONE_WAY = [("iip.tcp.output", "iip.tcp.input")]     # the first never reaches the second
# `iip` itself shows the public surface: it may use all but the command line, and from drivers upwards all may use it.
PACKAGE_USES, PACKAGE_USED_FROM = RANK["iip.runtime"], RANK["iip.drivers"]

STRING = re.compile(r'''"""(?:\\.|[^\\])*?"""|'''
                    r"""'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|#[^\n]*""", re.DOTALL)
NAMES = r"(?:\([^)]*\)|(?:\\\n|[^\n;])*)"
STATEMENT = re.compile(
    rf"(?:^|[;:])[ \t]*(?:from\s+(?P<base>[.\w]+)\s+c?import\s+(?P<names>{NAMES})"
    rf"|(?:c?import)\s+(?P<modules>(?:\\\n|[\w., \t])+))", re.MULTILINE)
EXTERN = re.compile(r"^[ \t]*cdef\s+extern\s+from\b", re.MULTILINE)
TYPE_CHECKING = re.compile(r"^(?P<indent>[ \t]*)if\s+(?:typing\.)?TYPE_CHECKING\s*:[^\n]*\n"
                           r"(?:(?P=indent)[ \t]+[^\n]*\n|[ \t]*\n)*", re.MULTILINE)


class Use(NamedTuple):
    path: Path
    line: int
    module: str
    target: str


def blank(match: re.Match[str]) -> str:
    """Spaces in place of what matched, line ends kept, so that offsets and line numbers stay true."""
    return re.sub(r"[^\n]", " ", match.group())


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def modules_below(root: Path) -> dict[Path, str]:
    """Every source file and the dotted name of its module."""
    found = {}
    for path in sorted((root / "iip").rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd"):
            parts = path.relative_to(root).with_suffix("").parts
            found[path] = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return found


def base_of(path: Path, module: str, dotted: str) -> str:
    """The absolute name of `dotted`, which may be relative to `module`."""
    level = len(dotted) - len(dotted.lstrip("."))
    if level == 0:
        return dotted
    parts = module.split(".")
    keep = len(parts) - level + (path.stem == "__init__")
    return ".".join([*parts[:keep], *filter(None, [dotted[level:]])])


def uses(path: Path, module: str, known: set[str]) -> Iterator[Use]:
    """The iip modules a file imports. Imports for type checkers alone do not count: nothing runs them."""
    text = EXTERN.sub(blank, STRING.sub(blank, path.read_text(encoding="utf-8")))
    text = TYPE_CHECKING.sub(blank, text)
    for match in STATEMENT.finditer(text):
        line = text.count("\n", 0, match.start() + len(match.group()) - len(match.group().lstrip())) + 1
        if match["modules"]:
            targets = [name.split()[0] for name in match["modules"].replace("\\\n", " ").split(",") if name.strip()]
        else:
            base = base_of(path, module, match["base"])
            names = re.findall(r"[\w.]+(?=\s*(?:,|$|\s+as\s))", match["names"].strip("() \t\n").replace("\\\n", " "))
            targets = [f"{base}.{name}" if f"{base}.{name}" in known else base for name in names] or [base]
        for target in dict.fromkeys(targets):
            if within(target, "iip"):
                yield Use(path, line, module, target)


def rank(module: str) -> int | None:
    rooms = [room for room in RANK if within(module, room)]
    return RANK[max(rooms, key=len)] if rooms else None


def climbs(use: Use) -> str | None:
    """Why this import is not allowed, or None."""
    own, other = rank(use.module), rank(use.target)
    if use.module == "iip":
        own = PACKAGE_USES
    if own is None:
        return f"{use.module} has no layer: give it one in ci/layers.py"
    if use.target == "iip":
        return None if own >= PACKAGE_USED_FROM or use.module == "iip" else f"{use.module} is below the package iip"
    if other is None:
        return f"{use.target} has no layer: give it one in ci/layers.py"
    if other > own:
        return f"{use.module} is below {use.target}"
    return None


def path_between(graph: dict[str, dict[str, Use]], start: str, goal: str) -> list[Use] | None:
    """The imports that lead from one module to another, shortest first; None when there are none."""
    trail: dict[str, list[Use]] = {start: []}
    queue = [start]
    for module in queue:
        for target, use in graph.get(module, {}).items():
            if target not in trail:
                trail[target] = [*trail[module], use]
                if within(target, goal):
                    return trail[target]
                queue.append(target)
    return None


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    files = modules_below(root)
    known = set(files.values())
    found = [use for path, module in files.items() for use in uses(path, module, known)]
    bad = [f"{use.path.relative_to(root)}:{use.line}: {why}" for use in found if (why := climbs(use))]

    graph: dict[str, dict[str, Use]] = {}
    for use in found:
        graph.setdefault(use.module, {}).setdefault(use.target, use)
    for start, goal in ONE_WAY:
        for module in sorted(name for name in known if within(name, start)):
            for use in path_between(graph, module, goal) or []:
                bad.append(f"{use.path.relative_to(root)}:{use.line}: {start} must not reach {goal}, "
                           f"but {use.module} uses {use.target}")

    print("\n".join(bad) or f"layers: {len(found)} imports in {len(files)} files, all downwards")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
