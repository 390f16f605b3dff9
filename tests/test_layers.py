"""ci/layers.py finds imports that climb, wherever and however they are written."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.packaging
LAYERS = Path(__file__).parent.parent / "ci" / "layers.py"


def check(tmp_path: Path, **files: str) -> list[str]:
    """Write files (name `room__module__pyx`), run the check, and return its lines of output."""
    for room in ("wire", "memory", "net", "tcp", "drivers", "cli"):
        (tmp_path / "iip" / room).mkdir(parents=True)
        (tmp_path / "iip" / room / "__init__.py").touch()
    (tmp_path / "iip" / "errors.py").touch()
    for name, text in files.items():
        *parts, suffix = name.split("__")
        (tmp_path / "iip").joinpath(*parts).with_suffix("." + suffix).write_text(text)
    done = subprocess.run([sys.executable, str(LAYERS), str(tmp_path)], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert not done.stderr
    assert done.returncode == (0 if "all downwards" in lines[-1] else 1)
    return lines


@pytest.mark.parametrize(("text", "line"), [
    ("from iip.tcp.input cimport x", 1),
    ("from ..tcp cimport input", 1),
    ("cimport iip.memory, iip.tcp.input as t", 1),
    ("from iip cimport errors, tcp", 1),
    ("from iip.errors import (\n    A,  # why\n    B)\nimport iip.cli.main", 4),
    ("def f():\n    import os; from iip.net import ip", 2),
    ("from iip import Engine", 1),
])
def test_climbing_import_is_found(tmp_path, text, line):
    found = check(tmp_path, memory__pool__pyx=text + "\n")
    assert len(found) == 1
    assert found[0].startswith(f"iip/memory/pool.pyx:{line}: ")


@pytest.mark.parametrize("text", [
    '"""An example:\nfrom iip.tcp import x\n"""\n',
    "# from iip.tcp import x\n",
    "from iip.wire.seq cimport lt\nfrom libc.stdint cimport uint8_t\nfrom . cimport ring\n",
    'cdef extern from "iip.h":\n    int x\n',
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from iip.tcp import x\n",
])
def test_what_does_not_climb_passes(tmp_path, text):
    assert "all downwards" in check(tmp_path, memory__pool__pyx=text)[0]


def test_output_never_reaches_input_not_even_by_a_third(tmp_path):
    found = check(tmp_path, tcp__input__pyx="", tcp__timers__pxd="from .input cimport x\n",
                  tcp__output__pyx="from iip.tcp.timers cimport y\n")
    assert [line.split(" ")[0] for line in found] == ["iip/tcp/output.pyx:1:", "iip/tcp/timers.pxd:1:"]
    assert all("iip.tcp.output must not reach iip.tcp.input" in line for line in found)


def test_input_may_use_output(tmp_path):
    assert "all downwards" in check(tmp_path, tcp__output__pyx="", tcp__input__pyx="from .output cimport x\n")[0]


def test_module_without_a_layer_is_named(tmp_path):
    assert "iip.stray has no layer" in check(tmp_path, stray__py="import iip.errors\n")[0]


def test_tcp_is_above_net(tmp_path):
    found = check(tmp_path, net__output__pxd="from iip.tcp.tcb cimport Tcb\n",
                  tcp__tcb__pxd="from iip.net.types cimport Addr\n")
    assert found == ["iip/net/output.pxd:1: iip.net.output is below iip.tcp.tcb"]
