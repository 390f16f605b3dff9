"""Importing iip without its compiled modules says what to do."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging
SOURCE = Path(__file__).parent.parent / "iip"


def import_error(where: Path) -> str:
    """The last line of what `import iip` prints in `where`, where it has to fail."""
    done = subprocess.run([sys.executable, "-c", "import iip"], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_source_checkout_names_both_builds(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "iip", ignore=shutil.ignore_patterns("*.so"))
    message = import_error(tmp_path)
    assert message.startswith("ImportError: iip is not compiled: iip.engine is missing")
    assert "python setup.py build_ext --inplace" in message
    assert "pip install ." in message


def test_installation_for_another_interpreter_names_what_it_found(tmp_path):
    shutil.copytree(SOURCE, tmp_path / "iip", ignore=shutil.ignore_patterns("*.so", "*.pyx"))
    (tmp_path / "iip" / "engine.cpython-39-x86_64-linux-gnu.so").touch()
    message = import_error(tmp_path)
    assert "found engine.cpython-39-x86_64-linux-gnu.so" in message
    assert "pip install --force-reinstall iip" in message


def test_dpdk_is_wanted_and_not_there(tmp_path):
    """By whoever builds, and by whoever imports what was built without."""
    environment = {**os.environ, "IIP_DPDK": "1", "PKG_CONFIG_PATH": "", "PKG_CONFIG_LIBDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "setup.py", "--version"], cwd=SOURCE.parent, env=environment, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "DPDK's development files are not found" in done.stderr
    assert "apt install libdpdk-dev" in done.stderr and "Traceback" not in done.stderr
    shutil.copytree(SOURCE, tmp_path / "iip", ignore=shutil.ignore_patterns("driver.cpython-*.so"))
    done = subprocess.run([sys.executable, "-c", "from iip.drivers import Dpdk"], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False)
    message = done.stderr.splitlines()[-1]
    assert message.startswith("ImportError: iip was built without the driver for DPDK")
    assert "IIP_DPDK=1 pip install --force-reinstall --no-binary iip iip" in message
