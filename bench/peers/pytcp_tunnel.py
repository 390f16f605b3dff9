"""The tunnel case with PyTCP (PyPI: pmd-pytcp), whose state belongs to the process: two processes, joined by a socket pair that
carries Ethernet frames, as its users have it around the packets of their tunnel. For bench/peers/tunnel.py."""
import asyncio
import contextlib
import os
import resource
import signal
import socket as kernel
import time

from pmd_net_addr import Ip6IfAddr, MacAddress
from pmd_pytcp import stack
from pmd_pytcp.lib import logger
from pmd_pytcp.lib.interface_layer import InterfaceLayer
from pmd_pytcp.socket import AF_INET6, SOCK_STREAM, socket

CLIENT, SERVER = "fd00::1", "fd00::2"
BULK, ECHO = 5001, 7
PIECE = 1 << 16
WINDOW = 1 << 20              # bytes; by default 65,535


@contextlib.asynccontextmanager
async def running(fd, address, mtu):
    stack.INTERFACE__TAP__MTU = mtu           # what a connection assumes
    stack.init(fd=fd, layer=InterfaceLayer.L2, mtu=mtu, mac_address=MacAddress(f"02:00:00:00:00:0{address[-1]}"),
               interface_name="tap0", ip4_support=False, ip4_dhcp=False, ip6_host=Ip6IfAddr(f"{address}/64"),
               ip6_gua_autoconfig=False, sysctls={"tcp.rcv_wnd_max": WINDOW})
    await stack.start()
    await until_owned(address)
    yield
    await stack.stop()


async def until_owned(address):
    """Some seconds: it looks whether somebody else has the address."""
    while True:
        probe = socket(family=AF_INET6, type=SOCK_STREAM)
        try:
            probe.bind((address, 9))
            break
        except OSError:
            await asyncio.sleep(0.1)
        finally:
            probe.close()


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
    listener = socket(family=AF_INET6, type=SOCK_STREAM)
    listener.bind((SERVER, port))
    listener.listen()
    tasks = []
    while True:
        conn, _peer = await listener.accept()
        tasks.append(asyncio.create_task(serve(conn)))


async def serve(fd, mtu, ready):
    async with running(fd, SERVER, mtu):
        asyncio.get_running_loop().call_later(0.1, os.write, ready, b".")
        await asyncio.gather(listen(BULK, count), listen(ECHO, echo))


async def connected(port):
    conn = socket(family=AF_INET6, type=SOCK_STREAM)
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
    there, ready = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(serve(theirs.fileno(), mtu, ready))
        os._exit(0)
    try:
        os.read(there, 1)
        return asyncio.run(asyncio.wait_for(measure(ours.fileno(), mtu, work, n, child), 120))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
