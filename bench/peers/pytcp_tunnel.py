"""The tunnel case with PyTCP (PyPI: pmd-pytcp), whose state belongs to the process: two processes, joined by a socket pair that
carries IPv4 packets (over IPv6 it does not connect this way). For bench/peers/tunnel.py."""
import asyncio
import contextlib
import os
import resource
import signal
import socket as kernel
import time

from pmd_net_addr import Ip4IfAddr
from pmd_pytcp import stack
from pmd_pytcp.lib import logger
from pmd_pytcp.lib.interface_layer import InterfaceLayer
from pmd_pytcp.socket import AF_INET, SOCK_STREAM, socket

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
BULK, ECHO = 5001, 7
PIECE = 1 << 16


@contextlib.asynccontextmanager
async def running(fd, address, mtu):
    stack.init(fd=fd, layer=InterfaceLayer.L3, mtu=mtu, ip4_host=Ip4IfAddr(f"{address}/24"), ip6_support=False)
    await stack.start()
    await asyncio.sleep(2)        # it looks whether somebody has the address
    yield
    await stack.stop()


async def count(conn):
    """Takes as many bytes as it is told first; then one byte goes back."""
    expected = int.from_bytes(await conn.recv(8), "big")
    while expected > 0:
        data = await conn.recv()
        if not data:
            return
        expected -= len(data)
    await conn.send(b"!")


async def echo(conn):
    while data := await conn.recv():
        await conn.send(data)
    conn.close()


async def listen(port, serve):
    listener = socket(family=AF_INET, type=SOCK_STREAM)
    listener.bind((SERVER, port))
    listener.listen()
    tasks = []
    while True:
        conn, _peer = await listener.accept()
        tasks.append(asyncio.create_task(serve(conn)))


async def serve(fd, mtu):
    async with running(fd, SERVER, mtu):
        await asyncio.gather(listen(BULK, count), listen(ECHO, echo))


async def connected(port):
    conn = socket(family=AF_INET, type=SOCK_STREAM)
    await conn.connect((SERVER, port))
    return conn


async def bulk(n):
    conn = await connected(BULK)
    await conn.send(n.to_bytes(8, "big"))
    left, piece = n, bytes(PIECE)
    while left > 0:
        left -= await conn.send(piece[:left])
    await conn.recv()


async def latency(n):
    conn = await connected(ECHO)
    for _ in range(n):
        await conn.send(b"x")
        await conn.recv()


async def connections(n):
    for _ in range(n):
        conn = await connected(ECHO)
        await conn.send(b"x")
        await conn.recv()
        conn.close()


def busy(child):
    """Seconds of CPU of this process and the server's."""
    with open(f"/proc/{child}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime + (int(fields[11]) + int(fields[12])) / ticks


async def measure(fd, mtu, work, n, child):
    async with running(fd, CLIENT, mtu):
        await asyncio.sleep(0.5)  # the other one listens by now
        begin, before = time.perf_counter(), busy(child)
        await {"bulk": bulk, "latency": latency, "connections": connections}[work](n)
        return n, time.perf_counter() - begin, busy(child) - before


def run(mtu, work, n):
    """(how much was done, seconds, seconds of CPU)"""
    logger.LOG__CHANNEL = set()
    ours, theirs = kernel.socketpair(kernel.AF_UNIX, kernel.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 1 << 22)
    child = os.fork()
    if child == 0:
        asyncio.run(serve(theirs.fileno(), mtu))
        os._exit(0)
    try:
        return asyncio.run(asyncio.wait_for(measure(ours.fileno(), mtu, work, n, child), 120))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
