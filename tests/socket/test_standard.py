"""The standard library's own tests of TCP and UDP sockets pass over iip; see standard.py."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("test.test_socket")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif("IIP_SANITIZED" in os.environ, reason="the same code runs in the tests beside")


def test_the_standard_librarys_tests_pass():
    """In a process of their own: they swap the module's functions and leave threads behind."""
    done = subprocess.run([sys.executable, "-m", "tests.socket.standard", "--json"], cwd=ROOT, capture_output=True, text=True,
                          timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    tried = {name: how for name, how in ended.items() if not how.startswith("left out")}
    assert len(tried) >= 250
    assert {name: how for name, how in tried.items() if how != "passed" and not how.startswith("skipped")} == {}
