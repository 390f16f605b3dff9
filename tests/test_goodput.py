"""bench/goodput.py: the quick table in the simulator, and what it refuses."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.netns import netns  # noqa: F401

pytestmark = pytest.mark.packaging      # needs bench/, which a tree of tests alone does not have
SCRIPT = Path(__file__).parent.parent / "bench" / "goodput.py"


def run(*arguments, timeout=120):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, check=False)


def test_the_quick_table(tmp_path):
    done = run("--quick", "--pairs", "sim", "--algorithms", "reno", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("| algorithm | RTT") and len(lines) == 5
    rows = json.loads((tmp_path / "goodput.json").read_text())
    with open(tmp_path / "goodput.csv", newline="") as file:
        assert [row["mbit_per_s"] for row in csv.DictReader(file)] == [str(row["mbit_per_s"]) for row in rows]
    clean = next(row for row in rows if row["loss"] == row["reorder"] == 0)
    assert 90 < clean["mbit_per_s"] < 96 and clean["retransmits"] < 1000


def test_the_seed_repeats_it(tmp_path):
    tables = [run("--quick", "--pairs", "sim", "--algorithms", "reno", "--seed", 3, "--output", tmp_path).stdout
              for _ in range(2)]
    assert tables[0] == tables[1] != ""


@pytest.mark.interop
def test_kernel_to_kernel(tmp_path, netns):  # noqa: F811
    done = run("--pairs", "linux-linux", "--algorithms", "reno", "--rtt", 0.01, "--loss", 0, "--reorder", 0, "--queue",
               1, "--seconds", 1, "--warm-up", 0.2, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "goodput.json").read_text())
    assert len(rows) == 1 and 1 < rows[0]["mbit_per_s"] <= 96


@pytest.mark.parametrize("arguments, words", [
    (("--pairs", "mac-mac"), "mac-mac"), (("--algorithms", "vegas"), "vegas"), (("--warm-up", 30), "--warm-up"),
])
def test_mistakes(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr
