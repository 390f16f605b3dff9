"""The standard library's own tests of streams, buffered protocols, servers and TLS pass over iip; see standard.py."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("test.test_asyncio")
pytestmark = pytest.mark.skipif("IIP_SANITIZED" in os.environ, reason="the same code runs in the tests beside")
ROOT = Path(__file__).parents[2]


def test_the_standard_librarys_tests_pass():
    """In a process of their own: they change the event loop policy, and leave threads behind."""
    code = "import json; from tests.aio.standard import outcomes; print(json.dumps(outcomes()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout.splitlines()[-1])
    tried = {name: how for name, how in ended.items() if not how.startswith("left out")}
    assert len(tried) >= 15
    assert {name: how for name, how in tried.items() if how not in ("passed", "skipped")} == {}
