"""A veth pair in the test's namespace: one end for a driver, the other for the kernel."""
import ipaddress
import select
import socket
import time

from iip.drivers import device

OURS, KERNEL = "iipv0", "iipk0"


def plug(netns, *addresses, mtu=1500, queues=1):
    """`addresses` are the kernel's, on its end."""
    netns.run("ip", "link", "add", KERNEL, "mtu", mtu, "numtxqueues", queues, "numrxqueues", queues, "type", "veth",
              "peer", "name", OURS, "mtu", mtu, "numtxqueues", queues, "numrxqueues", queues)
    for name in (OURS,) if addresses else (OURS, KERNEL):     # an end without an address says nothing by itself
        netns.run("ip", "link", "set", name, "addrgenmode", "none")
    for address in addresses:
        netns.run("ip", "address", "add", address, "dev", KERNEL, "nodad")
    for name in (KERNEL, OURS):
        netns.run("ip", "link", "set", name, "up")
    device.wait_until_usable([ipaddress.ip_interface(a) for a in addresses])


class Raw:
    """A packet socket on the kernel's end: what comes out there, and frames to send, complete as they are."""

    def __init__(self, name=KERNEL):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((name, 3))
        self.socket.settimeout(2)

    def send(self, *frames):
        for frame in frames:
            self.socket.send(frame)

    def receive(self, wanted):
        while True:
            frame = self.socket.recv(70000)
            if wanted(frame):
                return frame

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()


def receive(probe, wanted, n=1, timeout=2.0):
    """`n` received frames for which `wanted(frame)`; the kernel also sends discovery of its own."""
    poller = select.poll()
    poller.register(probe.driver.fileno(), select.POLLIN)
    found, end = [], time.monotonic() + timeout
    while len(found) < n:
        frames = probe.rx()
        found += filter(wanted, frames)
        assert frames or (poller.poll(timeout * 1000) and time.monotonic() < end), f"only {len(found)} of {n} came"
    return found


def send_until_received(raw, probe, frame):
    """The kernel sees only a moment later that there is a link again, and drops until then."""
    end = time.monotonic() + 5
    while frame not in probe.rx():
        assert time.monotonic() < end, "nothing comes over the link"
        raw.send(frame)
        time.sleep(0.01)
