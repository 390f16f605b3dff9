"""Fixtures of the TCP tests."""
import os
from pathlib import Path
from zlib import crc32

import pytest

pytest.register_assert_rewrite("tests.harness.wire", "tests.harness.peer", "tests.harness.packets",
                               "tests.harness.states")

from tests.harness.wire import Wire  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request):
    return request.param


# Once is enough where it takes three times as long, and with TSO the engine does more.
SANITIZED = "IIP_SANITIZED" in os.environ
DEVICES = ["tso"] if SANITIZED else ["tunnel", "tso"]


def pytest_collection_modifyitems(config, items):
    """Then every test with one version of IP, half of them with either."""
    def is_spared(item):
        version = getattr(item, "callspec", None) and item.callspec.params.get("version")
        return version and item.path.is_relative_to(HERE) and version != (4, 6)[crc32(item.originalname.encode()) & 1]

    if SANITIZED:
        spared = [item for item in items if is_spared(item)]
        config.hook.pytest_deselected(items=spared)
        gone = set(spared)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(params=DEVICES)
def device(request):
    """What an engine looks like from outside does not depend on who cuts the segments."""
    return request.param


@pytest.fixture
def make(version, device):
    """Makes engines on a wire, with the settings given; afterwards nothing unexpected may have left them, and
    every packet must be back in its pool."""
    wires = []

    def make(**settings):
        wires.append(Wire(version, **{"device": device, **settings}))
        return wires[-1]

    yield make
    for wire in wires:
        wire.finish()


@pytest.fixture
def wire(make):
    """An engine with default settings."""
    return make()
