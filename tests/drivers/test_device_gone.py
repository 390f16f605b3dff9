"""A device that goes away while an engine sleeps on it: the loop ends with an error that says so."""
import threading
import time

import pytest

import iip
from iip.drivers import AfPacket, AfXdp, Tap
from iip.errors import DriverError
from iip.runtime.loop import run
from tests.drivers.veth import OURS, plug

pytestmark = pytest.mark.interop


def dpdk(name):
    kind = pytest.importorskip("iip.drivers.dpdk", reason="built without DPDK (IIP_DPDK=1)", exc_type=ImportError)
    return kind.Dpdk(f"net_af_packet0,iface={name}")


@pytest.mark.parametrize("kind", [Tap, AfPacket, AfXdp, dpdk])
def test_the_loop_ends(netns, kind):
    if kind is not Tap:
        plug(netns)
    driver = kind(OURS)
    config = iip.Config(addresses=["10.7.0.2/24", "fd07::2/64"], link_local=False)
    engine = iip.Engine(config, iip.Handler(), driver)
    timer = threading.Timer(0.3, netns.run, ("ip", "link", "delete", OURS))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(DriverError, match=f"{OURS}.* is gone"):
        run(engine, duration=10)
    assert time.monotonic() - begin < 5
    timer.join()
    engine.run(time.monotonic_ns())                # harmless
    pool = engine.pool
    engine.close()
    driver.close()
    assert pool.full
