"""asyncio applications on two stacks in one loop."""
import asyncio

import pytest

from bench import aio_worlds as worlds

WAYS = [("memory", 1500), ("memory", 16000), ("tunnel", 1500), ("tunnel", 16000)]
IDS = [f"{way}-{mtu}" for way, mtu in WAYS]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    if request.param == "uvloop":
        loop = pytest.importorskip("uvloop").new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def ends(request, loop):
    """Two stacks, for as long as the measurement takes."""
    way, mtu = request.param
    context = worlds.joined(way, mtu)
    yield loop.run_until_complete(context.__aenter__())
    loop.run_until_complete(context.__aexit__(None, None, None))


@pytest.mark.parametrize("ends", WAYS, ids=IDS, indirect=True)
@pytest.mark.parametrize("kind", ["protocol", "stream"])
def test_bulk(measure, scale, loop, ends, kind):
    size = scale(1 << 28, 1 << 20)
    work = worlds.bulk if kind == "protocol" else worlds.stream_bulk

    def run():
        loop.run_until_complete(work(ends, size))
        return size
    measure("asyncio, bulk", "bytes", run, kind=kind)


@pytest.mark.parametrize("ends", WAYS, ids=IDS, indirect=True)
@pytest.mark.parametrize("clients", [1, 32])
def test_request_and_response(measure, scale, loop, ends, clients):
    times = scale(5000 // clients)

    def run():
        loop.run_until_complete(worlds.exchange(asking, times))
        return times * clients

    asking = loop.run_until_complete(worlds.askers(ends, clients))
    measure("asyncio, request and response", "transactions", run, clients=clients)
    for asker in asking:
        asker.transport.abort()


@pytest.mark.parametrize("ends", WAYS, ids=IDS, indirect=True)
def test_connections(measure, scale, loop, ends):
    n = scale(500)

    def run():
        loop.run_until_complete(worlds.connections(ends, n))
        return n
    measure("asyncio, connections", "connections", run)
