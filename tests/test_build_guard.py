"""Importing iip without its compiled modules says what to do."""
from __future__ import annotations

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
