"""`iip script`: files, directories, counts, exit status, reports."""
import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from iip.cli.app import cli

GOOD = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 close(3) = 0\n"
BAD = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 listen(3, 1) = 5\n"
LACKING = "0 mmap(NULL) = 0\n"


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, ["script", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def scripts(tmp_path):
    for name, text in (("good", GOOD), ("bad", BAD), ("lacking", LACKING)):
        (tmp_path / f"{name}.pkt").write_text(text)
    return tmp_path


def test_counts_and_status(scripts):
    assert "1 passed, 1 failed, 1 unsupported" in run(scripts, code=1).output
    assert "0 passed, 0 failed, 1 unsupported" in run(scripts / "lacking.pkt").output
    run(scripts / "lacking.pkt", "--unsupported-fails", code=1)
    assert "bad.pkt:2: failed" in run(scripts / "bad.pkt", code=1).output
    run(scripts / "nothing.pkt", code=2)


def test_several_versions_and_jobs(scripts):
    done = run(scripts / "good.pkt", "--ip-version", "4", "--ip-version", "6", "--ip-version", "4-mapped", "-j", 3, "-v")
    assert "3 passed" in done.output and "[IPv6]" in done.output


def test_json(scripts):
    found = json.loads(run(scripts, "--json", code=1).stdout)
    assert (found["passed"], found["failed"], found["unsupported"]) == (1, 1, 1)
    bad = next(s for s in found["scripts"] if s["outcome"] == "failed")
    assert bad["line"] == 2 and bad["expected"] == "5" and bad["actual"] == "0"


def test_junit(scripts, tmp_path):
    run(scripts, "--junit", tmp_path / "out.xml", code=1)
    suite = ET.parse(tmp_path / "out.xml").getroot()
    assert [suite.get(k) for k in ("tests", "failures", "skipped")] == ["3", "1", "1"]
