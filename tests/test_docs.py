"""The documentation is true: its code runs, its tables are complete, its links lead somewhere."""
from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import iip
from iip.stats import NAMES

ROOT = Path(__file__).parent.parent
if not (ROOT / "README.md").exists():
    pytest.skip("the documentation is not part of this tree", allow_module_level=True)

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "echo_cython" / "README.md"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def rows(path: Path) -> dict[str, list[str]]:
    """First cell -> other cells, of table rows whose first cell is `code`."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        match = re.fullmatch(r"\| `(\w+)` \|(.*)\|", line)
        if match:
            assert match[1] not in found, f"{path.name}: {match[1]} is there twice"
            found[match[1]] = [cell.strip() for cell in match[2].split(" | ")]
    return found


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_echo_runs():
    echo, _asyncio, _sockets, simulation, tunnel = blocks(ROOT / "README.md", "python")
    assert run(echo) == "b'hello'\n"
    assert run(simulation)
    assert run(tunnel + "print([packet[0] >> 4 for packet in packets])") == "[4]\n"


def test_asyncio_echo_runs():
    echo, *_ = blocks(ROOT / "docs" / "asyncio.md", "python")
    assert run(echo) == "b'hello'\n"


def test_socket_echo_runs():
    echo, *_ = blocks(ROOT / "docs" / "sockets.md", "python")
    assert run(echo) == "b'hello'\n"


def test_driver_written_in_python_runs():
    (example,) = [b for b in blocks(ROOT / "docs" / "drivers.md", "python") if "PythonDriver" in b]
    assert run(example + """
import iip
from ipaddress import ip_address

class Replies(iip.Handler):
    seen = []
    def icmp_reply(self, reply):
        self.seen.append((reply.source, reply.seq))

# two sockets that know each other
a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0))
ends = a.getsockname(), b.getsockname()
a.close(); b.close()
left, right = UdpTunnel(*ends), UdpTunnel(*ends[::-1])
here = iip.Engine(iip.Config(addresses=["10.0.0.1/24"]), Replies(), left)
there = iip.Engine(iip.Config(addresses=["10.0.0.2/24"]), iip.Handler(), right)
here.ping("10.0.0.2", 1, 7)
for now in range(4):
    here.run(now)
    there.run(now)
assert Replies.seen == [(ip_address("10.0.0.2"), 7)], Replies.seen
left.close(); right.close()
print("ok")
""") == "ok\n"


def test_settings_are_complete_and_true():
    table = rows(ROOT / "docs" / "configuration.md")
    assert list(table) == [f.name for f in fields(iip.Config)]
    for f in fields(iip.Config):
        default, bounds, unit, meaning = table[f.name]
        assert default == f"`{f.default!r}`".replace("'", '"'), f.name
        assert bounds == (f"{f.metadata['low']} … {f.metadata['high']}" if f.metadata else ""), f.name
        assert unit == f.metadata.get("unit", ""), f.name
        assert meaning.endswith("."), f.name


def test_counters_are_complete():
    table = rows(ROOT / "docs" / "counters.md")
    assert sorted(table) == sorted(NAMES)
    assert all(cells[0].endswith(".") for cells in table.values())


def test_callbacks_are_complete():
    text = (ROOT / "docs" / "callbacks.md").read_text()
    names = [n for cls in (iip.Handler, iip.Engine, iip.Connection) for n in vars(cls) if not n.startswith("_")]
    # of the engine, the settings it was given and what the driver chose need no words there
    missing = [n for n in names if not re.search(rf"\b{n}\b", text)]
    assert set(missing) <= {"handler", "addresses", "mac", "n_connections", "engine", "handle"}, missing


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


def test_versions_agree():
    assert f"[{iip.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f'version = "{iip.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_modules_without_stubs_hold_nothing_for_python():
    """ci/stubtest-allowlist.txt leaves them out, so nothing may hide there."""
    import importlib

    bare = [p for p in sorted((ROOT / "iip").rglob("*.pyx")) if not p.with_suffix(".pyi").exists()]
    assert bare
    for path in bare:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert re.fullmatch(r"iip\.(net|tcp)\.\w+|iip\.drivers\.(queue|line|packet_ring)|iip\.sim\.agenda|iip\.apps\.cache",
                            name), f"{name} needs a stub"
        module = importlib.import_module(name)
        own = [n for n, v in vars(module).items()
               if not n.startswith("__") and getattr(v, "__module__", None) == name]
        assert not own, f"{name} has {own}: write {path.with_suffix('.pyi').name}"
