"""Fixtures of the tests against the kernel; see world.py."""
import random

import pytest

from tests.harness.netns import netns, netns_module  # noqa: F401
from tests.interop.world import BIG, TUNTAP, VETH_WAYS, WAYS, Server


def pytest_generate_tests(metafunc):
    """`kind` and `way` go over TAP and TUN, in tests marked `every_driver` over the other drivers, too; tests of one kind
    follow each other, so that they share a server."""
    if any(mark.args[0] == "way" for mark in metafunc.definition.iter_markers("parametrize")):
        return                                     # the test chooses for itself
    ways = WAYS + (VETH_WAYS if metafunc.definition.get_closest_marker("every_driver") else [])
    names, ids = metafunc.fixturenames, [f"{w.kind}{w.version}" for w in ways]
    if "way" in names and "kind" in names:
        metafunc.parametrize(("kind", "way"), [(w.kind, w) for w in ways], ids=ids, scope="module")
    elif "way" in names:
        metafunc.parametrize("way", ways, ids=ids, scope="module")
    elif "kind" in names:
        metafunc.parametrize("kind", TUNTAP, scope="module")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A directory of files to serve: big (100 MB), small (1 kB), medium (1 MB)."""
    root = tmp_path_factory.mktemp("files")
    dice = random.Random(2)
    (root / "small").write_bytes(dice.randbytes(1000))
    (root / "medium").write_bytes(dice.randbytes(1_000_000))
    with (root / "big").open("wb") as f:
        for _ in range(100):
            f.write(dice.randbytes(BIG // 100))
    yield root
    (root / "big").unlink()


@pytest.fixture(scope="module")
def server(netns_module, kind, files):  # noqa: F811
    server = Server(kind, files)
    try:
        yield server
    except BaseException:
        server.kill()
        raise
    server.stop()
