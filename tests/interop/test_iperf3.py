"""iperf3's client and `iip serve --iperf3`: both agree on what arrived."""
import json

import pytest

from iip.apps.iperf3 import Iperf3
from tests.interop.world import Local, need

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("direction", [(), ("-R",)], ids=["to iip", "from iip"])
def test_streams(netns, way, direction):
    need("iperf3")
    with Local(way.kind, Iperf3(), pool_packets=16384, time_wait=0) as local:
        local.engine.tcp_listen(5201)
        client = netns.start("iperf3", "-c", way.iip, "-P", 2, "-n", "20M", *direction, "--json", stdout=-1, stderr=-2, text=True)
        try:
            local.until(lambda: client.poll() is not None, 30)
            out = client.stdout.read()
        finally:
            client.kill()
            client.wait()
            client.stdout.close()
        assert client.returncode == 0, out
        end = json.loads(out)["end"]
        # who receives need not have read the last bytes when the sender says that the test is over
        assert 10_000_000 < end["sum_received"]["bytes"] <= end["sum_sent"]["bytes"]
        local.until(lambda: local.engine.n_connections == 0, 5)
