"""End to end through a TAP device, with the kernel at the other end. Root only."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/net/tun"), reason="needs root and /dev/net/tun")


@pytest.mark.parametrize("size", [1, 1000])
def test_echo(benchmark, scale, size):
    benchmark.group = "TAP, transactions with the kernel"

    def run():
        done = subprocess.run(["unshare", "-n", sys.executable, "-m", "bench.tap", "--size", str(size), "--transactions",
                               str(scale(5000))], capture_output=True, text=True, cwd=Path(__file__).parent.parent, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    benchmark.extra_info.update(benchmark.pedantic(run, rounds=1))
