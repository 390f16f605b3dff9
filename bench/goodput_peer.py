"""One end of a measurement of `bench/goodput.py`: the kernel's TCP or iip's, sender or receiver.

    python bench/goodput_peer.py linux|iip send|receive --local ADDRESS --remote ADDRESS ...

The receiver prints `ready` and, after --seconds, a JSON object; the sender sends until SIGINT and then prints one.
"""
from __future__ import annotations

import argparse
import json
import selectors
import signal
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
PORT = 5001
DEVICE = "iip"
CONNECT = 20.0                    # seconds that connecting may take
BLOCK = bytes(1 << 18)
IIP_NAMES = {"reno": ("newreno", "reno"), "cubic": ("cubic",), "bbr": ("bbr",), "dctcp": ("dctcp",)}
TCP_INFO_TOTAL_RETRANS = 100      # offset in struct tcp_info of Linux


def iip_name(algorithm: str) -> str | None:
    """What iip calls an algorithm; None if it has none."""
    import iip
    from iip.drivers import Tunnel

    for name in IIP_NAMES[algorithm]:
        try:
            iip.Engine(iip.Config(congestion=name, pool_packets=16, max_connections=1), iip.Handler(), Tunnel()).close()
        except iip.ConfigError:
            continue
        return name
    return None


def kernel_algorithms() -> list[str]:
    try:
        return Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    except OSError:
        return []


def engine_settings(buffer: int, algorithm: str, flows: int = 1) -> dict[str, object]:
    """Settings of an engine whose memory is not what limits."""
    packets = max(4096, 4 * flows * buffer // 1448)
    return {"send_buffer": buffer, "receive_buffer": buffer, "pool_packets": packets, "max_connections": 64,
            "out_of_order": min(1 << 16, packets), "congestion": iip_name(algorithm)}


class Meter:
    """Bytes that came on each connection between two times after the first one."""

    def __init__(self, seconds, warm_up):
        self.seconds, self.warm_up = seconds, warm_up
        self.begin = self.first = None
        self.total = 0

    def over(self, now, totals):
        """Note that so many bytes have come; whether it is time to end."""
        if self.begin is None:
            self.begin = now
        if self.first is None and now >= self.begin + self.warm_up:
            self.first = (now, list(totals))
        self.last = (now, list(totals))
        return now >= self.begin + self.seconds

    def result(self):
        (t0, before), (t1, after) = self.first, self.last
        each = [(n1 - n0) * 8 / (t1 - t0) / 1e6 for n0, n1 in zip(before, after, strict=True)]
        return {"mbit_per_s": sum(each), "each": each, "bytes": sum(after)}


# -- the kernel ------------------------------------------------------------------------------------------------

def linux_send(options, stop):
    selector = selectors.DefaultSelector()
    socks = []
    for _ in range(options.flows):
        sock = socket.socket()
        # before it connects: a connection that begins with BBR, some systems' default, goes on being paced
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, options.algorithm.encode())
        sock.settimeout(CONNECT)
        sock.bind((options.local, 0))
        sock.connect((options.remote, PORT))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_WRITE)
        socks.append(sock)
    while not stop and selector.get_map():
        for key, _ in selector.select(0.2):
            try:
                key.fileobj.send(BLOCK)
            except BlockingIOError:
                continue
            except OSError:
                selector.unregister(key.fileobj)
    infos = [sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192) for sock in socks]
    return {"retransmits": sum(struct.unpack_from("I", info, TCP_INFO_TOTAL_RETRANS)[0] for info in infos)}


def linux_receive(options, stop):
    meter = Meter(options.seconds, options.warm_up)
    into = bytearray(1 << 18)
    selector = selectors.DefaultSelector()
    totals, senders = [0] * options.flows, []
    with socket.create_server((options.local, PORT), backlog=options.flows) as server:
        server.settimeout(CONNECT + 10)
        print("ready", flush=True)
        for i in range(options.flows):
            sock, (address, _) = server.accept()
            sock.setblocking(False)
            senders.append(address)
            selector.register(sock, selectors.EVENT_READ, i)
        while not meter.over(time.monotonic(), totals):
            for key, _ in selector.select(0.05):
                n = key.fileobj.recv_into(into)
                if n == 0:
                    raise SystemExit("the sender closed too early")
                totals[key.data] += n
    return {**meter.result(), "senders": senders}


# -- iip -------------------------------------------------------------------------------------------------------

def make_engine(options, handler):
    import iip
    from iip.drivers import Tap

    device = Tap(DEVICE, create=False)
    config = iip.Config(addresses=[f"{options.local}/24"], address_check=False, link_local=False,
                        **engine_settings(options.buffer, options.algorithm, options.flows))
    return iip.Engine(config, handler, device, seed=1 if options.role == "send" else 2)


def iip_send(options, stop):
    from iip.apps.bench import BulkSource
    from iip.runtime.loop import run

    source = BulkSource(BLOCK)
    engine = make_engine(options, source)
    source.lend(engine)
    for _ in range(options.flows):
        engine.tcp_connect(options.remote, PORT)
    run(engine, duration=options.seconds + CONNECT, stop=lambda: bool(stop))
    result = {"retransmits": engine.stats()["tcp_retransmits"],
              "counters": {name: n for name, n in engine.stats().items() if n}}
    source.release(engine)
    engine.close()
    engine.driver.close()
    return result


def iip_receive(options, stop):
    from iip.apps.bench import BulkSink
    from iip.runtime.loop import run

    sink = BulkSink(BLOCK, False)
    meter = Meter(options.seconds, options.warm_up)
    engine = make_engine(options, sink)
    engine.tcp_listen(PORT)
    print("ready", flush=True)
    run(engine, duration=CONNECT + options.seconds + 10,
        stop=lambda: bool(stop) or (sink.received and meter.over(time.monotonic(), [sink.received])))
    if not sink.received:
        raise SystemExit("nobody connected")
    result = meter.result()
    engine.close()
    engine.driver.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack", choices=["linux", "iip"])
    parser.add_argument("role", choices=["send", "receive"])
    parser.add_argument("--algorithm", choices=list(IIP_NAMES), required=True)
    parser.add_argument("--local", required=True)
    parser.add_argument("--remote", required=True)
    parser.add_argument("--buffer", type=int, required=True)
    parser.add_argument("--flows", type=int, default=1)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, required=True)
    options = parser.parse_args()
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))
    functions = {("linux", "send"): linux_send, ("linux", "receive"): linux_receive, ("iip", "send"): iip_send,
                 ("iip", "receive"): iip_receive}
    print(json.dumps(functions[options.stack, options.role](options, stop)), flush=True)


if __name__ == "__main__":
    main()
