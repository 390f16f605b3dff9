"""Network layers to test, checked for leaks when a test ends."""
import pytest

from iip.config import Config
from iip.net.inspect import NetProbe
from tests.net.frames import ME, ME4, ME6


class Probes:
    """Makes network layers; remembers them for the check at the end."""

    def __init__(self):
        self.made = []

    def __call__(self, caps=0, seed=1, **settings):
        values = {"addresses": (ME4 + "/24", ME6 + "/64"), "mac": ME, "pool_packets": 256, "address_check": False,
                  "link_local": False} | settings
        probe = NetProbe(Config(**values), seed=seed, caps=caps)
        self.made.append(probe)
        return probe


@pytest.fixture(autouse=True)
def make():
    """A factory of `NetProbe`s; afterwards nothing may be missing from their pools."""
    probes = Probes()
    yield probes
    for probe in probes.made:
        probe.take_output()
        probe.events()
        probe.close()
        assert probe.pool.full
        assert probe.pool.free_packets == probe.pool.packets


@pytest.fixture
def probe(make):
    """One with the usual settings."""
    return make()
