"""Making, finding and configuring a TUN or TAP device of Linux: the slow part of `iip.drivers.tap`."""
from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Interface, IPv6Interface

from iip.errors import DriverError

NODE = "/dev/net/tun"

_IFNAMSIZ = 16
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_IFF_TUN, _IFF_TAP = 0x0001, 0x0002
_IFF_MULTI_QUEUE, _IFF_NO_PI, _IFF_VNET_HDR = 0x0100, 0x1000, 0x4000
_TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454D0, 0x400454D8
_TUNSETSTEERINGEBPF, _SOCKET_FILTER = 0x800454E0, 1
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 0x01, 0x02, 0x04
VNET_HEADER = 10                  # bytes of struct virtio_net_hdr
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_IFF_UP = 0x0001
_RTF_LOCAL = 0x80000000
_IFA_F_NODAD = 0x02


def open_device(kind: str, name: str | None, *, queues: int, persist: bool | None, create: bool,
                vnet: bool = False) -> tuple[int, str]:
    """Attach to the device `name` (made if it does not exist and `create`); its descriptor and real name.

    kind: ``"tap"`` or ``"tun"``; vnet: frames have a header in front that says what is unfinished (`set_offload`).
    """
    if not sys.platform.startswith("linux"):
        raise DriverError(f"{kind}: TUN and TAP devices exist on Linux only; use iip.drivers.Tunnel here")
    import fcntl

    wanted = _check_name(kind, name)
    exists = _exists(wanted)
    if not exists and not create:
        raise DriverError(f"{kind}: there is no device {wanted!r}; make it with "
                          f"`ip tuntap add dev {wanted} mode {kind}` or leave out create=False")
    try:
        fd = os.open(NODE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DriverError(f"{kind}: {NODE} does not exist; load the driver with `modprobe tun`, or in a container "
                          f"pass the device in (docker: --device {NODE} --cap-add NET_ADMIN)") from None
    except PermissionError:
        raise DriverError(f"{kind}: no permission to open {NODE}; run as root or fix its mode") from None
    flags = (_IFF_TAP if kind == "tap" else _IFF_TUN) | _IFF_NO_PI | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    if vnet:
        flags |= _IFF_VNET_HDR
    try:
        answer = fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", wanted.encode(), flags))
        if persist is not None:
            fcntl.ioctl(fd, _TUNSETPERSIST, int(persist))
    except OSError as error:
        os.close(fd)
        raise DriverError(_explain(kind, wanted, error, exists, queues)) from None
    return fd, answer[:_IFNAMSIZ].split(b"\0", 1)[0].decode()


def set_offload(fd: int, csum: bool, tso: bool) -> bool:
    """What the kernel may leave to us: checksums, and the cutting of segments. False if it does not know of it."""
    import fcntl

    flags = (_TUN_F_CSUM if csum or tso else 0) | (_TUN_F_TSO4 | _TUN_F_TSO6 if tso else 0)
    try:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
    except OSError:
        return False
    return True


def set_steering(fd: int) -> bool:
    """Have a device with several queues choose among them by the symmetric Toeplitz hash; False if the kernel does not let us."""
    import fcntl

    from iip.drivers import fanout, xdp

    try:
        program = xdp.load(_SOCKET_FILTER, fanout.steering())
    except OSError:
        return False
    try:
        fcntl.ioctl(fd, _TUNSETSTEERINGEBPF, struct.pack("i", program))
    except OSError:
        return False
    finally:
        os.close(program)
    return True


def _exists(name: str) -> bool:
    # not by /sys, which may show another network namespace
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def _check_name(kind: str, name: str | None) -> str:
    if name is None:
        return f"{kind}%d"
    if not name or len(name.encode()) >= _IFNAMSIZ:
        raise DriverError(f"{kind}: name {name!r} is not possible; a device name has 1 to {_IFNAMSIZ - 1} bytes")
    if name in (".", "..") or any(c in "/:" or c.isspace() or c == "\0" for c in name):
        raise DriverError(f"{kind}: name {name!r} is not possible; leave out slashes, colons and blanks")
    return name


def _explain(kind: str, name: str, error: OSError, exists: bool, queues: int) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return (f"{kind}: no permission to use {name!r}: it needs CAP_NET_ADMIN; run as root, or make the device for "
                f"yourself beforehand with `sudo ip tuntap add dev {name} mode {kind} user $USER`")
    if error.errno == errno.EBUSY:
        if exists:
            return (f"{kind}: device {name!r} is busy: another program has it, or it is not of mode {kind}; "
                    f"stop that program or choose another name")
        return f"{kind}: device {name!r} is busy; choose another name"
    if error.errno == errno.EINVAL and exists:
        multi = "with" if queues > 1 else "without"
        return (f"{kind}: device {name!r} exists and is not of mode {kind} {multi} multi_queue; choose another name, "
                f"or for a TUN or TAP device the driver (Tap or Tun) and number of queues that it was made for")
    return f"{kind}: cannot attach to {name!r}: {error.strerror}"


def ifreq(name: str, request: int, payload: bytes) -> bytes:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control.fileno(), request, struct.pack("16s24s", name.encode(), payload))[_IFNAMSIZ:]


def get_mtu(name: str) -> int:
    return int(struct.unpack_from("i", ifreq(name, _SIOCGIFMTU, b""))[0])


def set_mtu(name: str, mtu: int) -> None:
    try:
        ifreq(name, _SIOCSIFMTU, struct.pack("i", mtu))
    except PermissionError:
        raise DriverError(f"mtu={mtu}: no permission to change that of {name}; run as root, or set it beforehand "
                          f"with `sudo ip link set {name} mtu {mtu}` and leave mtu out here") from None
    except OSError as error:
        raise DriverError(f"mtu={mtu}: {name} does not take it ({error.strerror}); use a smaller one") from None


def bring_up(name: str) -> None:
    flags = struct.unpack_from("H", ifreq(name, _SIOCGIFFLAGS, b""))[0]
    if flags & _IFF_UP:
        return
    try:
        ifreq(name, _SIOCSIFFLAGS, struct.pack("H", flags | _IFF_UP))
    except PermissionError:
        raise DriverError(f"{name} is down and there is no permission to change that; run as root, or beforehand "
                          f"`sudo ip link set {name} up`") from None


def add_host_addresses(name: str, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    """Give the kernel's end of the device its addresses (interface notation); needs pyroute2."""
    # pyroute2 runs an event loop of its own, and there may be one in this thread; a new one is in the same namespace
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_add_host_addresses, name, addresses).result()


def _add_host_addresses(name: str, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError:
        raise DriverError("host_address needs the library pyroute2: pip install 'iip[netlink]', or leave host_address "
                          f"out and run `ip address add ... dev {name}`") from None
    with IPRoute() as ipr:
        index = ipr.link_lookup(ifname=name)[0]
        for interface in addresses:
            settings: dict[str, int] = {"family": socket.AF_INET if interface.version == 4 else socket.AF_INET6}
            if interface.version == 6:
                # nobody else is on this link, so no need to wait for the conflict check
                settings["flags"] = _IFA_F_NODAD
            try:
                ipr.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen,
                         **settings)
            except NetlinkError as error:
                if error.code == errno.EEXIST:
                    continue
                if error.code == errno.EPERM:
                    raise DriverError(f"host_address={interface}: no permission to configure {name}; run as root or "
                                      f"beforehand `sudo ip address add {interface} dev {name}`") from None
                raise DriverError(f"host_address={interface}: the kernel refuses it for {name}: "
                                  f"{os.strerror(error.code)}") from None


def wait_until_usable(addresses: Iterable[IPv4Interface | IPv6Interface], seconds: float = 1.0) -> None:
    """Sleep until the kernel takes packets for its IPv6 addresses: it makes the routes for them a moment after the
    device is up, and what came earlier would be lost. Not longer than `seconds`."""
    waiting = {interface.ip.packed.hex() for interface in addresses if interface.version == 6}
    end = time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        try:
            # destination, its prefix length, source, its prefix length, next hop, metric, references, uses, flags
            with open("/proc/thread-self/net/ipv6_route") as table:
                rows = [line.split() for line in table]
        except OSError:
            return
        waiting -= {row[0] for row in rows if row[1] == "80" and int(row[8], 16) & _RTF_LOCAL}
        if waiting:
            time.sleep(0.001)
