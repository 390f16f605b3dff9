"""Tables and plots of what `bench/goodput.py` measured; by itself, for results there are already:

    python bench/goodput_report.py bench/results [--plots DIRECTORY]
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

PATH = ("algorithm", "rtt_ms", "queue_bdp", "loss", "reorder")
HEAD = ("algorithm", "RTT, ms", "queue, BDP", "loss", "reordered")
ENOUGH = 0.95                     # of the kernel's goodput
KERNEL = "linux-linux"
WITH_IIP = ("iip-linux", "linux-iip", "iip-iip")


def read(directory: Path) -> list[dict]:
    """The rows that were measured so far, in the order of the measurement."""
    file = directory / "goodput.jsonl"
    if not file.exists():
        return []
    rows = []
    for line in file.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:        # the run broke off while it was written
            continue
    return rows


def single(rows):
    return [row for row in rows if row["flows"] == 1]


def by_path(rows) -> dict[tuple, dict[str, dict]]:
    """Rows of one flow: path and algorithm to pair to row."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in single(rows):
        found.setdefault(tuple(row[k] for k in PATH), {})[row["pair"]] = row
    return found


def compared(rows) -> list[str]:
    """The pairs with iip at an end, if the kernel at both ends was measured as well."""
    pairs = list(dict.fromkeys(row["pair"] for row in single(rows)))
    return [pair for pair in pairs if pair in WITH_IIP] if KERNEL in pairs else []


def ratio(found: dict[str, dict], pair: str) -> float | None:
    """A pair's goodput in parts of the kernel's with itself."""
    if pair not in found or not found.get(KERNEL, {}).get("mbit_per_s"):
        return None
    return found[pair]["mbit_per_s"] / found[KERNEL]["mbit_per_s"]


def _line(values) -> str:
    return "| " + " | ".join(values) + " |"


def _path(algorithm, rtt, queue, loss, reorder) -> list[str]:
    return [algorithm, f"{rtt:g}", f"{queue:g}", f"{loss:.1%}", f"{reorder:.0%}"]


def _part(part: float | None) -> str:
    return "" if part is None else f"{part:.2f}" if part >= ENOUGH else f"**{part:.2f}**"


def table(rows) -> str:
    """One line a path and algorithm, one column a pair: Mbit/s, retransmissions in brackets; then what pairs with iip have in
    parts of what the kernel has with itself."""
    pairs = list(dict.fromkeys(row["pair"] for row in single(rows)))
    with_iip = compared(rows)
    head = [*HEAD, *pairs, *(f"{pair} / {KERNEL}" for pair in with_iip)]
    lines = [_line(head), "|---" * len(head) + "|"]
    for path, found in by_path(rows).items():
        values = [f"{found[p]['mbit_per_s']:.1f} ({found[p]['retransmits']})" if p in found else "" for p in pairs]
        values += [_part(ratio(found, pair)) for pair in with_iip]
        lines.append(_line(_path(*path) + values))
    return "\n".join(lines)


def fairness(rows) -> str:
    """The runs of several flows, half of them iip's: Jain's index, and the share of iip's flows (1: a fair one)."""
    shared = [row for row in rows if row["flows"] > 1]
    if not shared:
        return ""
    lines = [_line([*HEAD, "flows", "Jain", "iip's share", "Mbit/s"]), "|---" * 9 + "|"]
    for row in shared:
        lines.append(_line([*_path(*(row[k] for k in PATH)), f"{row['flows']} {row['pair']}", f"{row['jain']:.2f}",
                            f"{row['share']:.2f}", f"{row['mbit_per_s']:.1f}"]))
    return "\n".join(lines)


def summary(rows) -> str:
    said = []
    for pair in compared(rows):
        parts = [part for part in (ratio(found, pair) for found in by_path(rows).values()) if part is not None]
        said.append(f"{pair}: {sum(part >= ENOUGH for part in parts)} of {len(parts)}")
    return f"Cells with at least {ENOUGH:.0%} of the kernel's goodput: {', '.join(said)}." if said else ""


def markdown(rows) -> str:
    return "\n\n".join(part for part in (table(rows), summary(rows), fairness(rows)) if part)


def write(rows, directory: Path) -> None:
    (directory / "goodput.md").write_text(markdown(rows) + "\n")


# -- plots -----------------------------------------------------------------------------------------------------

def _bars(axes, paths, cells, pairs) -> None:
    width = 0.8 / len(pairs)
    for i, pair in enumerate(pairs):
        heights = [cells[path].get(pair, {}).get("mbit_per_s", 0.0) for path in paths]
        axes.bar([x + i * width for x in range(len(paths))], heights, width, label=pair)
    labels = [f"{rtt:g} ms\n{queue:g} BDP\n" + (f"{reorder:.0%} late" if reorder else f"{loss:.1%} lost")
              for _, rtt, queue, loss, reorder in paths]
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(paths))], labels, fontsize=6)
    axes.set_ylabel("Mbit/s")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def plot(rows, directory: Path) -> list[Path]:
    """A picture of each algorithm, PNG and SVG; what was written."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    directory.mkdir(parents=True, exist_ok=True)
    cells, written = by_path(rows), []
    pairs = list(dict.fromkeys(row["pair"] for row in single(rows)))
    for algorithm in dict.fromkeys(path[0] for path in cells):
        paths = [path for path in cells if path[0] == algorithm]
        figure, axes = pyplot.subplots(figsize=(max(6.0, 0.7 * len(paths)), 4.0), layout="constrained")
        _bars(axes, paths, cells, pairs)
        axes.set_title(f"{algorithm}: goodput, 100 Mbit/s")
        for kind in ("png", "svg"):
            written.append(directory / f"goodput-{algorithm}.{kind}")
            figure.savefig(written[-1], dpi=150)
        pyplot.close(figure)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--plots", type=Path, help="where pictures go (needs matplotlib)")
    options = parser.parse_args()
    rows = read(options.directory)
    if not rows:
        parser.error(f"{options.directory} has no goodput.jsonl")
    print(markdown(rows))
    if options.plots:
        plot(rows, options.plots)


if __name__ == "__main__":
    main()
