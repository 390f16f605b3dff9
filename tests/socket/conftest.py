"""Two stacks on a memory link, run by one thread; at the end every packet is back and no thread is left."""
import contextlib
import threading

import pytest

import iip.socket
from iip import PacketPool
from iip.drivers import MemoryLink


class Net:
    """A client and a server; `thread` runs a function beside the test, which waits for it."""

    v4, v6 = "10.0.0.2", "fd00::2"

    def __init__(self, **settings):
        self.pool = PacketPool(8192)
        link, worker = MemoryLink(), iip.socket.Worker()
        settings = {"time_wait": 0.05, "worker": worker, "pool": self.pool, **settings}
        self.client, self.server = (
            iip.socket.Stack(end, addresses=(f"10.0.0.{n}/24", f"fd00::{n}/64"), seed=n, **settings)
            for n, end in ((1, link.a), (2, link.b)))
        self._threads, self._errors = [], []

    def thread(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except BaseException as error:
                self._errors.append(error)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def join(self):
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a thread hangs"
        for error in self._errors:
            raise error

    def pair(self, **settings):
        """Two connected sockets."""
        with self.server.create_server((self.v4, 0)) as listener:
            there = self.client.create_connection(listener.getsockname(), **settings)
            here, peer = listener.accept()
            assert peer == there.getsockname()
        return there, here

    def close(self):
        self.client.close()
        self.server.close()
        self.join()
        assert self.pool.full


@pytest.fixture
def net(request):
    before = set(threading.enumerate())
    net = Net(**getattr(request, "param", {}))
    yield net
    net.close()
    assert set(threading.enumerate()) <= before


@contextlib.contextmanager
def echo(net, stack=None, host="", family=None):
    """An echo server with a thread for each connection; its port."""
    listener = (stack or net.server).create_server((host, 0), **({"family": family} if family else {}))

    def one(sock):
        with sock, contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                sock.sendall(data)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                sock, _peer = listener.accept()
                net.thread(one, sock)

    net.thread(accept)
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
