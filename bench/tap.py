"""An echo server on a TAP device and a client of the kernel's beside it: how many transactions a second.

    unshare -n python -m bench.tap [--transactions 2000] [--size 1]

Needs root; makes its device in the network namespace it is started in.
"""
import argparse
import json
import socket
import threading
import time

import iip
from iip.apps.bench import PingPongServer
from iip.drivers import Tap
from iip.runtime.loop import run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=2000)
    parser.add_argument("--size", type=int, default=1)
    options = parser.parse_args()
    driver = Tap("iipbench", host_address=("10.9.0.1/24",))
    engine = iip.Engine(iip.Config(addresses=["10.9.0.2/24"], medium="ethernet", address_check=False), PingPongServer(), driver)
    engine.tcp_listen(7)
    stop = threading.Event()
    server = threading.Thread(target=run, args=(engine,), kwargs={"stop": stop})
    server.start()
    try:
        with socket.create_connection(("10.9.0.2", 7), 10) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = [exchange(s, bytes(options.size)) for _ in range(options.transactions)]
    finally:
        stop.set()
        server.join()
        engine.close()
        driver.close()
    times.sort()
    median, late = (times[len(times) * p // 100] / 1e3 for p in (50, 99))
    print(json.dumps({"transactions": len(times), "median_us": median, "p99_us": late}))


def exchange(s, data):
    begin = time.monotonic_ns()
    s.sendall(data)
    left = len(data)
    while left:
        left -= len(s.recv(left))
    return time.monotonic_ns() - begin


if __name__ == "__main__":
    main()
