"""Starting DPDK: the slow part, which needs no DPDK itself."""
from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from iip.errors import ConfigError

_HUGE = Path("/sys/kernel/mm/hugepages")
_ENOUGH = 128 << 10               # kB
_PCI = re.compile(r"([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_FRAME = 1952                     # what net_af_packet can put into a packet of 2048 bytes, its header included;
_BLOCK = math.lcm(_FRAME, 4096)   # its blocks must be whole frames, and the kernel's whole pages


def missing(error: ImportError) -> ImportError:
    """What to say when the compiled part cannot be imported."""
    if isinstance(error, ModuleNotFoundError):
        what = "iip was built without the driver for DPDK"
    else:
        what = f"the driver for DPDK cannot be loaded ({error}); it is used with the DPDK that it was built for"
    return ImportError(f"{what}: install DPDK's development files (Debian, Ubuntu: `apt install libdpdk-dev`, Fedora: `dnf install "
                       "dpdk-devel`), then `IIP_DPDK=1 pip install --force-reinstall --no-binary iip iip`, or in a source checkout "
                       "`IIP_DPDK=1 python setup.py build_ext --inplace`", name="iip.drivers.dpdk")


def hugepages() -> bool:
    """Whether there are enough huge pages that nobody uses."""
    free = 0
    for kind in _HUGE.glob("hugepages-*kB"):
        with contextlib.suppress(OSError, ValueError):
            free += int(kind.name[10:-2]) * int((kind / "free_hugepages").read_text())
    return free >= _ENOUGH


def arguments(given: Sequence[str]) -> list[str]:
    """What DPDK is started with: the given ones, or for a library in somebody's program: threads where they are, no files, no
    device but those that are asked for."""
    if any(not isinstance(word, str) or "\0" in word for word in given):
        raise ConfigError(f"arguments={given!r}: must be strings, like '--no-huge', '-m', '256'")
    found = ["iip"]
    if not any(word.startswith(("-l", "--lcores", "-c", "--main-lcore")) for word in given):
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        found += ["--lcores", f"0@({cores})"]
    if not any(word.startswith(("-a", "--allow", "-b", "--block", "--no-pci")) for word in given):
        found += ["-a", "0000:00:00.0"]            # none of those that nobody asked for
    if not any(word.startswith("--log-level") for word in given):
        found += ["--log-level", "warning"]
    if not any(word.startswith(("--no-huge", "--huge", "--socket-mem", "-m", "--in-memory", "--file-prefix")) for word in given):
        found += ["--in-memory"] if hugepages() else ["--no-huge", "--no-shconf", "-m", "128"]
    if "--no-telemetry" not in given and "--telemetry" not in given:
        found += ["--no-telemetry"]
    return found + list(given)


def device_name(device: str) -> tuple[str, str]:
    """The device in full, and its name alone: a PCI address or a virtual device, either with its arguments."""
    name, comma, rest = device.partition(",")
    if _PCI.fullmatch(name):
        name = name if name.count(":") == 2 else f"0000:{name}"
    elif not _NAME.fullmatch(name):
        raise ConfigError(f"device={device!r}: write a PCI address like '0000:03:00.0', or a virtual device of DPDK like "
                          "'net_af_packet0,iface=eth0' or 'net_tap0,iface=tap0'")
    if name.startswith("net_af_packet") and "framesz=" not in rest:
        rest, comma = f"{rest},framesz={_FRAME},blocksz={_BLOCK}".lstrip(","), ","
    return name + comma + rest, name
