"""Ping-pong between two stacks of PyTCP (PyPI: pmd-pytcp), whose state belongs to the process: two processes on the
processors given to this one, joined by a socket pair that carries IP packets as a TUN device would.

    python pytcp_pair.py SIZE CONNECTIONS SECONDS WARM_UP      prints transactions and the seconds they took
"""
import asyncio
import contextlib
import os
import signal
import socket as kernel
import sys
import time

from pmd_net_addr import Ip4IfAddr
from pmd_pytcp import stack
from pmd_pytcp.lib import logger
from pmd_pytcp.lib.interface_layer import InterfaceLayer
from pmd_pytcp.socket import AF_INET, SOCK_STREAM, socket

SERVER = "10.0.0.2"
PORT = 7
transactions = []                 # one entry each


@contextlib.asynccontextmanager
async def running(fd, address):
    stack.init(fd=fd, layer=InterfaceLayer.L3, ip4_host=Ip4IfAddr(f"{address}/24"), ip6_support=False)
    await stack.start()
    await asyncio.sleep(1)        # it looks whether somebody has the address
    yield
    await stack.stop()


async def echo(conn):
    while data := await conn.recv():
        await conn.send(data)


async def serve(fd):
    async with running(fd, SERVER):
        listener = socket(family=AF_INET, type=SOCK_STREAM)
        listener.bind((SERVER, PORT))
        listener.listen()
        tasks = []
        while True:
            conn, _peer = await listener.accept()
            tasks.append(asyncio.create_task(echo(conn)))


async def exchange(conn, request):
    while True:
        await conn.send(request)
        left = len(request)
        while left:
            data = await conn.recv()
            if not data:
                return
            left -= len(data)
        transactions.append(1)


async def measure(fd, size, connections, seconds, warm_up):
    async with running(fd, "10.0.0.1"):
        await asyncio.sleep(0.5)  # the other one listens by now
        tasks = []
        for _ in range(connections):
            conn = socket(family=AF_INET, type=SOCK_STREAM)
            await conn.connect((SERVER, PORT))
            tasks.append(asyncio.create_task(exchange(conn, bytes(size))))
        await asyncio.sleep(warm_up)
        begin, before = time.perf_counter(), len(transactions)
        await asyncio.sleep(seconds)
        print(len(transactions) - before, time.perf_counter() - begin, flush=True)
        for task in tasks:
            task.cancel()


def main():
    size, connections = int(sys.argv[1]), int(sys.argv[2])
    logger.LOG__CHANNEL = set()
    ours, theirs = kernel.socketpair(kernel.AF_UNIX, kernel.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    child = os.fork()
    if child == 0:
        asyncio.run(serve(theirs.fileno()))
        os._exit(0)
    try:
        asyncio.run(asyncio.wait_for(measure(ours.fileno(), size, connections, float(sys.argv[3]), float(sys.argv[4])), 60))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
