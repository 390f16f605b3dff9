"""python -m iip_echo: check the compiled echo server over a memory link, or serve with it on a TAP device."""
import argparse
import hashlib
import random

import iip
from iip.drivers import MemoryLink, Tap
from iip.runtime.loop import run
from iip.runtime.pair import run_pair
from iip_echo import Echo


class Client(iip.Handler):
    """Sends `data`, collects what comes back, closes when all of it did."""

    def __init__(self, data):
        self.data = data
        self.sent = 0
        self.received = bytearray()
        self.reason = None

    def tcp_connected(self, conn):
        self.sent += conn.send(self.data[self.sent:])

    def tcp_acked(self, conn, n):
        self.tcp_connected(conn)

    def tcp_payload(self, conn, data):
        self.received += data
        conn.consume(len(data))
        if len(self.received) >= len(self.data):
            conn.close()

    def tcp_closed(self, conn, reason):
        self.reason = reason


def check():
    data = random.Random(1).randbytes(3_000_000)
    link = MemoryLink()
    pool = iip.PacketPool(8192)
    echo, client = Echo(), Client(data)
    server_engine = iip.Engine(iip.Config(addresses=["10.0.0.1/24"]), echo, link.a, pool)
    client_engine = iip.Engine(iip.Config(addresses=["10.0.0.2/24"]), client, link.b, pool)
    server_engine.tcp_listen(7)
    client_engine.tcp_connect("10.0.0.1", 7)
    if run_pair(client_engine, server_engine, duration=30, stop=lambda: client.reason is not None) == "until":
        raise SystemExit(f"iip_echo: {len(client.received)} of {len(data)} bytes came back within 30 seconds")
    same = hashlib.sha256(client.received).digest() == hashlib.sha256(data).digest()
    if not same or client.reason is not iip.Reason.NORMAL or echo.echoed != len(data):
        raise SystemExit(f"iip_echo: the echo differs: {len(client.received)} bytes, {client.reason!r}")
    client_engine.close()
    server_engine.close()
    if not pool.full:
        raise SystemExit(f"iip_echo: {pool.packets - pool.free_packets} packets were not given back")
    print(f"iip_echo: {echo.echoed} bytes echoed over {echo.connections} connection, SHA-256 equal, all packets back")


def serve(tap, addresses, host_addresses):
    driver = Tap(tap, host_address=host_addresses)
    engine = iip.Engine(iip.Config(addresses=addresses), Echo(), driver)
    engine.tcp_listen(7)
    print(f"iip_echo: serving on {tap}, {', '.join(addresses)} port 7; end with Ctrl-C")
    try:
        run(engine)
    except KeyboardInterrupt:
        print(f"iip_echo: {engine.handler.echoed} bytes over {engine.handler.connections} connections")
    finally:
        engine.close()
        driver.close()


def main():
    parser = argparse.ArgumentParser(prog="python -m iip_echo", description=__doc__)
    parser.add_argument("--tap", metavar="NAME", help="serve on this TAP device instead of checking")
    parser.add_argument("--address", metavar="CIDR", action="append", default=[], help="our address on it")
    parser.add_argument("--host-address", metavar="CIDR", action="append", default=[],
                        help="the kernel's address on it")
    options = parser.parse_args()
    if options.tap is None:
        check()
    elif options.address:
        serve(options.tap, options.address, options.host_address)
    else:
        parser.error("--tap needs --address, like 10.0.0.2/24")


if __name__ == "__main__":
    main()
