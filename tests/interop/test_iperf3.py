"""iperf3's client and `iip serve --iperf3`: both agree on what arrived."""
import pytest

from iip.apps.iperf3 import Iperf3
from tests.interop.world import Local, iperf3, need

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["to iip", "from iip"])
def test_streams(netns, way, direction):
    need("iperf3")
    with Local(way.kind, Iperf3(), pool_packets=16384, time_wait=0) as local:
        local.engine.tcp_listen(5201)
        end = iperf3(netns, local, "-c", way.iip, "-P", 2, "-n", "20M", *direction)
        # who receives need not have read the last bytes when the sender says that the test is over
        assert 10_000_000 < end["sum_received"]["bytes"] <= end["sum_sent"]["bytes"]
        local.until(lambda: local.engine.n_connections == 0, 5)
