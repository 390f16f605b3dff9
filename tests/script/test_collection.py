"""Our own collection of packet scripts: all of tests/scripts pass, all of tests/scripts_negative fail as they say."""
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from iip.cli.app import cli

OWN = Path(__file__).parent.parent / "scripts"
NEGATIVE = Path(__file__).parent.parent / "scripts_negative"


def play(*arguments):
    """Exit status and what became of each script, by its path."""
    done = CliRunner().invoke(cli, ["script", "--json", *map(str, arguments)])
    return done.exit_code, {Path(row["path"]): row for row in json.loads(done.stdout)["scripts"]}


@pytest.fixture(scope="module")
def negative():
    return play(NEGATIVE, "-j", 2)


def test_own_scripts_pass():
    status, found = play(OWN, "-j", 2, "--unsupported-fails")
    assert [f"{path}:{row['line']}: {row['message']}" for path, row in found.items() if row["outcome"] != "passed"] == []
    assert status == 0
    assert len(found) >= 250


def test_the_same_over_ipv6():
    """What TCP does in a state, and about a loss, does not depend on the version of IP."""
    folders = [OWN / name for name in ("matrix", "close", "blind_attacks", "timestamps", "sack", "dsack", "newreno")]
    status, found = play(*folders, "-j", 2, "--ip-version", "6", "--unsupported-fails")
    assert [str(path) for path, row in found.items() if row["outcome"] != "passed"] == []
    assert status == 0


def test_every_script_names_what_it_checks():
    """A script begins with what happens; one of a topic of RFCs names the section."""
    silent = [path for path in OWN.rglob("*.pkt") if not path.read_text().startswith("//")]
    assert silent == []
    nameless = [path for path in (OWN / "matrix").glob("*.pkt") if "RFC" not in path.read_text()]
    assert nameless == []


def test_a_wrong_script_fails_the_run(negative):
    status, found = negative
    assert status == 1
    assert len(found) >= 40


@pytest.mark.parametrize("path", sorted(NEGATIVE.rglob("*.pkt")), ids=lambda p: p.stem)
def test_negative_scripts_fail(negative, path):
    """Each has one mistake, marked in its first line by words that the report must hold."""
    words = path.read_text().split("\n")[0].removeprefix("// fails: ")
    row = negative[1][path]
    assert row["outcome"] == "failed", row
    assert words in f"{row['message']}; expected: {row['expected']}; actual: {row['actual']}"
