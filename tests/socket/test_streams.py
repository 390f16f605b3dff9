"""TCP sockets: what blocks and for how long, the kernel's errnos, selectors, threads."""
import collections
import contextlib
import errno
import gc
import io
import random
import select
import selectors
import signal
import socket
import struct
import threading
import time
import tracemalloc

import pytest

import iip.socket
from tests.socket.conftest import echo

DATA = random.Random(5).randbytes(3_000_000)


def fails(code, function, *arguments):
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno == code, caught.value
    assert not isinstance(caught.value, TimeoutError) or code == errno.ETIMEDOUT


def eventually(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


# -- bytes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"])
def test_everything_comes_back(net, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with echo(net, family=family) as port, net.client.create_connection((host, port)) as sock:
        net.thread(lambda: (sock.sendall(DATA), sock.shutdown(socket.SHUT_WR)))
        got = bytearray()
        while data := sock.recv(100_000):
            got += data
        assert got == DATA


def test_files_and_buffers(net):
    there, here = net.pair()
    with there, here:
        with there.makefile("rwb") as file, here.makefile("r", encoding="ascii", newline="\n") as lines:
            file.write(b"one\ntwo\n")
            file.flush()
            assert [next(lines), next(lines)] == ["one\n", "two\n"]
        net.thread(lambda: (there.sendfile(io.BytesIO(DATA)), there.shutdown(socket.SHUT_WR)))
        assert here.recv(1, socket.MSG_PEEK) == DATA[:1]
        whole = bytearray(len(DATA))
        assert here.recv_into(whole, 0, socket.MSG_WAITALL) == len(DATA)
        assert whole == DATA
        assert here.recv(1) == b""
        assert here.sendmsg([b"a", b"bc"]) == 3
        parts = [bytearray(1), bytearray(5)]
        assert there.recvmsg_into(parts)[0] == 3
        assert parts == [b"a", b"bc\0\0\0"]


def test_dup_and_detach(net):
    there, here = net.pair()
    with here:
        second = there.dup()
        there.close()
        second.send(b"x")
        assert here.recv(1) == b"x"
        again = iip.socket.socket(fileno=second.detach())
        again.send(b"y")
        assert here.recv(1) == b"y"
        fails(errno.EBADF, second.send, b"z")
        again.close()
        assert here.recv(1) == b""


# -- errnos --------------------------------------------------------------------------------------------------
def test_errnos(net):
    sock = net.client.socket()
    for code, call, *arguments in (
            (errno.ENOTCONN, sock.recv, 1), (errno.EPIPE, sock.send, b"x"), (errno.ENOTCONN, sock.getpeername),
            (errno.EINVAL, sock.accept), (errno.ENOTCONN, sock.shutdown, socket.SHUT_WR),
            (errno.EADDRNOTAVAIL, sock.bind, ("10.9.9.9", 5)), (errno.ECONNREFUSED, sock.connect, (net.v4, 9)),
            (errno.ENETUNREACH, sock.connect, ("127.0.0.1", 9)),
            (errno.ENOPROTOOPT, sock.setsockopt, socket.SOL_SOCKET, 9999, 1)):
        fails(code, call, *arguments)
    assert sock.connect_ex((net.v4, 9)) == errno.ECONNREFUSED
    sock.bind(("", 77))
    fails(errno.EINVAL, sock.bind, ("", 78))
    with net.client.socket() as other:
        fails(errno.EADDRINUSE, other.bind, ("10.0.0.1", 77))
    sock.close()
    fails(errno.EBADF, sock.recv, 1)
    assert sock.fileno() == -1
    there, here = net.pair()
    fails(errno.EISCONN, there.connect, (net.v4, 9))
    there.shutdown(socket.SHUT_WR)
    fails(errno.EPIPE, there.send, b"x")
    assert here.recv(1) == b""
    there.close()
    here.close()


def test_a_reset_is_told_once(net):
    there, here = net.pair()
    here.send(b"before")
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert there.recv(6, socket.MSG_WAITALL) == b"before"
    there.close()
    fails(errno.ECONNRESET, here.recv, 1)
    assert here.recv(1) == b""
    fails(errno.EPIPE, here.send, b"x")
    here.close()


def test_closing_with_unread_data_resets(net):
    there, here = net.pair()
    here.send(b"nobody reads this")
    eventually(lambda: there._core.buffer)
    there.close()
    fails(errno.ECONNRESET, here.recv, 1)
    here.close()


@pytest.mark.parametrize("net", [{"syn_retries": 1, "rto_initial": 0.05, "neighbour_lifetime": 1.0}], indirect=True)
def test_nobody_answers(net):
    net.server.close()
    with net.client.socket() as sock:
        sock.settimeout(0.02)
        with pytest.raises(TimeoutError, match="timed out"):
            sock.connect((net.v4, 9))
    with net.client.socket() as sock:
        fails(errno.ETIMEDOUT, sock.connect, (net.v4, 9))


@pytest.mark.parametrize("net", [{"user_timeout": 0.3}], indirect=True)
def test_a_peer_that_vanishes(net):
    there, here = net.pair()
    with there, here:
        net.server.driver.close()
        there.send(b"is anybody there?")
        fails(errno.ETIMEDOUT, there.recv, 1)


# -- timeouts and selectors ----------------------------------------------------------------------------------
def test_timeouts(net):
    there, here = net.pair(timeout=0.05)
    with there, here:
        with pytest.raises(TimeoutError):
            there.recv(1)
        with pytest.raises(TimeoutError):
            there.sendall(bytes(20_000_000))
        there.setblocking(False)
        fails(errno.EAGAIN, there.recv, 1)
        fails(errno.EINVAL, there.recv, 1, socket.MSG_OOB)
        with net.server.create_server(("", 0)) as listener:
            listener.settimeout(0.01)
            with pytest.raises(TimeoutError):
                listener.accept()


def ready(sock):
    """What select says; poll and epoll must say the same, if nothing happens meanwhile."""
    poller, epoll = select.poll(), select.epoll()
    poller.register(sock, select.POLLIN | select.POLLOUT)
    epoll.register(sock, select.EPOLLIN | select.EPOLLOUT)
    for _ in range(100):
        read, write, _ = select.select([sock], [sock], [], 0)
        masks = [events[0][1] if events else 0 for events in (poller.poll(0), epoll.poll(0))]
        if all((bool(mask & select.POLLIN), bool(mask & select.POLLOUT)) == (bool(read), bool(write)) for mask in masks):
            epoll.close()
            return ("r" if read else "") + ("w" if write else "")
        time.sleep(0.001)
    raise AssertionError((read, write, masks))


def test_selectors_see_what_calls_would_do(net):
    listener = net.server.create_server((net.v4, 0))
    there = net.client.socket()
    there.setblocking(False)
    assert ready(listener) == ""
    fails(errno.EINPROGRESS, there.connect, listener.getsockname())
    eventually(lambda: ready(there) == "w" and ready(listener) == "r")
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    here, _ = listener.accept()
    assert ready(listener) == ""
    assert ready(here) == "w"
    there.send(b"ab")
    eventually(lambda: ready(here) == "rw")
    assert here.recv(1) == b"a"
    assert ready(here) == "rw"    # level-triggered
    assert here.recv(1) == b"b"
    assert ready(here) == "w"
    here.settimeout(0)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += here.send(DATA)
    assert ready(here) == ""      # full
    while sent:
        select.select([there], [], [], 10)
        sent -= len(there.recv(1 << 20))
    eventually(lambda: ready(here) == "w")
    there.close()
    eventually(lambda: ready(here) == "rw")
    assert here.recv(1) == b""
    here.close()
    listener.close()
    with net.client.socket() as refused:
        refused.setblocking(False)
        refused.connect_ex((net.v4, 9))
        eventually(lambda: "r" in ready(refused))
        assert refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_a_server_of_one_thread(net):
    """Fifty clients, each with its own bytes, served by a selector."""
    listener = net.server.create_server(("", 0))
    port = listener.getsockname()[1]

    def serve():
        with selectors.DefaultSelector() as selector, listener:
            selector.register(listener, selectors.EVENT_READ)
            left = 50
            while left:
                for key, _events in selector.select(10):
                    if key.fileobj is listener:
                        sock, _ = listener.accept()
                        sock.setblocking(False)
                        selector.register(sock, selectors.EVENT_READ)
                    elif data := key.fileobj.recv(65536):
                        key.fileobj.sendall(data)
                    else:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
                        left -= 1

    def client(n):
        with net.client.create_connection((net.v4, port)) as sock:
            for size in (1, 10_000):
                sock.sendall(bytes([n]) * size)
                assert sock.recv(size, socket.MSG_WAITALL) == bytes([n]) * size

    net.thread(serve)
    for n in range(50):
        net.thread(client, n)
    net.join()


# -- options -------------------------------------------------------------------------------------------------
def test_options(net):
    there, here = net.pair()
    with there, here:
        for level, option, value in (
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7), (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1500),
                (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), (socket.IPPROTO_IP, socket.IP_TTL, 9),
                (socket.SOL_SOCKET, socket.SO_RCVBUF, 50_000)):
            there.setsockopt(level, option, value)
            assert there.getsockopt(level, option) == value
        assert there._core.conn.keepalive_idle == 7
        there.send(b"x")
        here.recv(1)
        eventually(lambda: struct.unpack_from("Q", there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240), 120)[0] == 1)
        info = there.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert info[0] == 1       # TCP_ESTABLISHED
        assert struct.unpack_from("I", info, 16)[0] == here._core.conn.mss == 1448
        assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") == b"cubic"
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
        assert there._core.conn.congestion == "bbr"
        fails(errno.ENOENT, there.setsockopt, socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"nosuch")
        assert (there.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), there.family, there.proto) == (1, socket.AF_INET, 6)


def test_options_are_inherited(net):
    with net.server.create_server(("", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with net.client.create_connection((net.v4, listener.getsockname()[1])), listener.accept()[0] as here:
            assert here._core.conn.nodelay


# -- threads and ends ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ["recv", "accept", "send", "connect"])
def test_closing_while_another_thread_blocks(net, call):
    there, here = net.pair()
    listener = net.server.create_server(("", 0))
    lost = net.client.socket()
    blocked = {"recv": lambda: there.recv(1), "accept": listener.accept, "send": lambda: there.sendall(bytes(20_000_000)),
               "connect": lambda: lost.connect(("10.0.0.77", 1))}[call]
    subject = {"accept": listener, "connect": lost}.get(call, there)
    errors = []

    def block():
        try:
            blocked()
        except OSError as error:
            errors.append(error.errno)

    thread = net.thread(block)
    eventually(lambda: subject._core._gate.waiting)
    subject.close()
    thread.join(10)
    assert errors == [errno.EBADF]
    for sock in (there, here, listener, lost):
        sock.close()


def test_closing_the_stack_wakes_everybody(net):
    there, here = net.pair()
    errors = []

    def block():
        try:
            here.recv(1)
        except OSError as error:
            errors.append(error.errno)

    thread = net.thread(block)
    eventually(lambda: here._core._gate.waiting)
    net.server.close()
    thread.join(10)
    assert errors == [errno.ENETDOWN]
    fails(errno.ENETDOWN, here.send, b"x")
    fails(errno.ENETDOWN, net.server.socket)
    fails(errno.ECONNRESET, there.recv, 1)
    here.close()
    there.close()


def test_many_threads_on_one_socket(net):
    """Writers and readers share both ends; no byte is lost or doubled."""
    there, here = net.pair()
    counts, lock = [0] * 256, threading.Lock()

    def write(n):
        for _ in range(50):
            there.sendall(bytes([n]) * 997)

    def read():
        while data := here.recv(5000):
            with lock:
                for value in set(data):
                    counts[value] += data.count(value)

    readers = [net.thread(read) for _ in range(4)]
    writers = [net.thread(write, n) for n in range(8)]
    for thread in writers:
        thread.join(20)
    there.shutdown(socket.SHUT_WR)
    for thread in readers:
        thread.join(20)
    assert counts[:9] == [50 * 997] * 8 + [0]
    there.close()
    here.close()


class Tick(BaseException):
    pass


def test_signals_lose_nothing(net):
    """Handlers raise in the main thread, whose calls run the engine, while others' bytes and connections come in."""
    there, here = net.pair()
    noise, sink = net.pair()
    got, names = [], []

    def tick(*_signal):
        raise Tick

    def calls():
        with net.server.create_server((net.v4, 7)) as listener:
            for n in range(100):
                with net.client.create_connection((net.v4, 7)) as mine:
                    mine.sendall(bytes([n]))
                    theirs, _ = listener.accept()
                    with theirs:
                        names.append(theirs.recv(1)[0])

    readers = [net.thread(lambda: got.extend(iter(lambda: here.recv(1 << 16), b""))), net.thread(calls),
               net.thread(lambda: collections.deque(iter(lambda: sink.recv(1 << 16), b""), 0))]
    net.thread(lambda: (there.sendall(DATA), there.shutdown(socket.SHUT_WR)))
    before, hits = signal.signal(signal.SIGALRM, tick), 0
    try:
        while readers[0].is_alive() or readers[1].is_alive():
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0003)
                for _ in range(50):
                    noise.send(b"x" * 3000)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Tick:
                hits += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert b"".join(got) == DATA
    assert names == list(range(100))
    assert hits
    for sock in (noise, there, here):
        sock.close()
    readers[2].join(10)
    sink.close()


def test_a_slow_reader_stops_its_peer(net):
    there, here = net.pair(timeout=0.3)
    data = bytes(100_000_000)
    tracemalloc.start()
    with there, here:
        with pytest.raises(TimeoutError):
            there.sendall(data)
        assert len(here._core.buffer) < 7 << 20
        assert tracemalloc.get_traced_memory()[0] < 20 << 20
        tracemalloc.stop()


def test_a_forgotten_socket_is_closed(net):
    there, here = net.pair()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del there
        gc.collect()
    assert here.recv(1) == b""
    here.close()


def test_what_was_sent_before_close_arrives(net):
    there, here = net.pair()
    there.sendall(DATA[:100_000])
    there.close()
    net.thread(net.client.close)
    got = b""
    while data := here.recv(65536):
        got += data
    assert got == DATA[:100_000]
    here.close()


def test_stacks_come_and_go():
    from tests.socket.conftest import Net

    for _ in range(10):
        net = Net()
        there, here = net.pair()
        there.send(b"x")
        assert here.recv(1) == b"x"
        there.close()
        here.close()
        net.close()


def test_a_driver_that_raises(net):
    from iip.drivers import PythonDriver

    class Cable(PythonDriver):
        def __init__(self):
            super().__init__(medium="ip")

        def receive(self, now, limit):
            if broken:
                raise OSError("the cable is gone")
            return ()

    broken = False
    with iip.socket.Stack(Cable(), addresses=["10.0.0.1/24"]) as stack, stack.socket() as sock:
        sock.bind(("", 5))
        sock.listen()
        broken = True
        with pytest.raises(OSError, match="the cable is gone"):
            sock.accept()
        assert stack.closed
    assert stack.engine.pool.full
