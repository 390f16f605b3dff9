"""Fixtures of the TCP tests."""
import os

import pytest

pytest.register_assert_rewrite("tests.harness.wire", "tests.harness.peer", "tests.harness.packets",
                               "tests.harness.states")

from tests.harness.wire import Wire  # noqa: E402


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request):
    return request.param


# Once is enough where it takes three times as long, and with TSO the engine does more.
DEVICES = ["tso"] if "IIP_SANITIZED" in os.environ else ["tunnel", "tso"]


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
