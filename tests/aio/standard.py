"""The standard library's own asyncio tests over iip: only how an endpoint is made differs.

`Loop` is asyncio's selector loop whose calls that make endpoints are those of a stack. 127.0.0.1 and ::1 stand for its addresses.
Where a test has a server or a client on a blocking socket of the kernel's in a thread, a second stack at the other end of a
memory link passes its bytes on, so that they travel over iip all the same.

    python -m tests.aio.standard        # which tests use it, and how they end
"""
import asyncio
import contextlib
import io
import signal
import socket
import sys
import unittest
import warnings

from iip.aio import Stack
from iip.drivers import MemoryLink

OURS = {"127.0.0.1": "10.0.0.1", "::1": "fd00::1", "localhost": "10.0.0.1"}
MODULES = ("test_streams", "test_buffered_proto", "test_server", "test_sslproto")
SECONDS = 20                      # that a test may take
_STANDS = "the test blocks the loop's thread until the peer has seen the end, and a stack needs its loop to send"
_KERNEL = "a kernel socket connects to the address of the stack"
IMPOSSIBLE = {
    "test_sslproto.SelectorStartTLSTests.test_create_connection_ssl_failed_certificate": _STANDS,
    "test_sslproto.SelectorStartTLSTests.test_create_connection_ssl_slow_handshake": _STANDS,
    "test_sslproto.SelectorStartTLSTests.test_handshake_timeout": _STANDS,
    "test_sslproto.SelectorStartTLSTests.test_start_tls_server_1": _KERNEL,
    "test_server.SelectorStartServerTests.test_start_server_1": _KERNEL,
}

used = set()                      # ids of the tests that made an endpoint of iip
current = None


def inward(value):
    """The stack's address in place of the loopback device's."""
    if isinstance(value, tuple):
        return (inward(value[0]), *value[1:])
    return OURS.get(value, value) if isinstance(value, str) else value


async def relay(reader, writer, to_reader, to_writer):
    """Both directions until both are over."""
    async def one_way(source, target):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.write_eof()

    try:
        await asyncio.gather(one_way(reader, to_writer), one_way(to_reader, writer))
    except (OSError, RuntimeError, asyncio.CancelledError):    # one side was reset, or the test is over
        writer.transport.abort()
        to_writer.transport.abort()
    finally:
        writer.close()
        to_writer.close()


class Loop(asyncio.SelectorEventLoop):
    """See above."""

    near = far = None

    def _stack(self):
        used.add(current)
        if self.near is None:
            link = MemoryLink()
            settings = {"pool_packets": 8192, "seed": 1, "time_wait": 1}
            self.near = Stack(link.a, addresses=["10.0.0.1/24", "fd00::1/64"], **settings)
            self.far = Stack(link.b, addresses=["10.0.0.2/24", "fd00::2/64"], **settings)
        return self.near

    async def _kernel_server(self, port):
        """A way through the link to a server of the kernel, if it is there."""
        if self.far.listeners.used(port):
            return

        async def serve(reader, writer):
            await relay(reader, writer, *await self._kernel_connection(port))

        await self.far.start_server(serve, port=port)

    async def _kernel_connection(self, port):
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await super().create_connection(lambda: protocol, "127.0.0.1", port)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self)

    async def create_server(self, factory, host=None, port=None, *, sock=None, **settings):
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            if sock is not None:
                return await super().create_server(factory, host, port, sock=sock, **settings)
            return await self._stack().create_server(factory, inward(host), port, **settings)
        port = sock.getsockname()[1]
        server = await self._stack().create_server(factory, "10.0.0.1", port, **settings)

        async def enter(reader, writer):      # the kernel's clients come through the link
            await relay(reader, writer, *await self.far.open_connection("10.0.0.1", port))

        def stream():
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(), enter)

        gate = await super().create_server(stream, sock=sock)
        close = server.close
        server.close = lambda: (gate.close(), close())
        return server

    async def create_connection(self, factory, host=None, port=None, *, sock=None, **settings):
        if sock is not None:
            return await super().create_connection(factory, host, port, sock=sock, **settings)
        stack, to = self._stack(), inward(host)
        if settings.get("local_addr"):
            settings["local_addr"] = inward(settings["local_addr"])
        if to != host and not stack.listeners.used(port) and self._kernel_listens(port):
            await self._kernel_server(port)
            to = to.replace("10.0.0.1", "10.0.0.2").replace("fd00::1", "fd00::2")
        if settings.get("ssl") and settings.get("server_hostname") is None:
            settings["server_hostname"] = host
        return await stack.create_connection(factory, to, port, **settings)

    @staticmethod
    def _kernel_listens(port):
        with open("/proc/net/tcp") as table:
            return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in list(table)[1:])

    async def create_datagram_endpoint(self, factory, local_addr=None, remote_addr=None, *, sock=None, **settings):
        if sock is not None:
            return await super().create_datagram_endpoint(factory, local_addr, remote_addr, sock=sock, **settings)
        return await self._stack().create_datagram_endpoint(factory, inward(local_addr), inward(remote_addr), **settings)

    def close(self):
        if self.near is not None and not self.is_running() and not self.is_closed():
            self.near.close()
            self.far.close()
            relays = asyncio.all_tasks(self)
            for task in relays:
                task.cancel()
            self.run_until_complete(asyncio.wait(relays) if relays else asyncio.sleep(0))
        super().close()


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


def tests_of(name):
    """The tests of a module of the `test` package, on our loop."""
    module = __import__(f"test.test_asyncio.{name}", fromlist=["*"])
    for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
        for test in suite:
            for maker in ("create_event_loop", "new_loop"):
                if hasattr(test, maker):
                    setattr(test, maker, Loop)
            yield test


def stuck(_signal, _frame):
    raise TimeoutError("the test hangs")


def outcome(test):
    """"passed", "skipped", or the last line of the failure."""
    global current  # noqa: PLW0603
    current = test.id().removeprefix("test.test_asyncio.")
    if current in IMPOSSIBLE:
        used.add(current)
        return f"left out: {IMPOSSIBLE[current]}"
    result = unittest.TestResult()
    signal.signal(signal.SIGALRM, stuck)
    signal.alarm(SECONDS)
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test.run(result)
    signal.alarm(0)
    if result.skipped:
        return "skipped"
    bad = result.errors + result.failures
    return bad[0][1].strip().splitlines()[-1] if bad else "passed"


def outcomes(modules=MODULES):
    """{test: how it ended} of the tests that used a stack."""
    found = {}
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(Policy())
    try:
        for name in modules:
            for test in tests_of(name):
                ended = outcome(test)
                if current in used:
                    found[current] = ended
    finally:
        asyncio.set_event_loop_policy(before)
    return found


if __name__ == "__main__":
    ended = outcomes(sys.argv[1:] or MODULES)
    for test_id, how in ended.items():
        print(f"{test_id}: {how}")
    print(sum(how == "passed" for how in ended.values()), "of", len(ended))
