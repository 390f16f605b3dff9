"""A network namespace of one's own, for tests against the kernel. Root only.

    from tests.harness.netns import netns, netns_module      # fixtures
"""
import contextlib
import ctypes
import ctypes.util
import os
import subprocess
import sys

import pytest

_CLONE_NEWNET = 0x40000000


def _why_not():
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "needs root to make a network namespace"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun (modprobe tun; docker: --device /dev/net/tun)"
    return None


class Namespace:
    """The kernel's end. Commands run in it, and the devices that the test makes appear in it."""

    def run(self, *command, timeout=30, check=True, **settings):
        done = subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True, timeout=timeout,
                              **settings)
        if check and done.returncode:
            raise AssertionError(f"{command} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return done

    def sysctl(self, name, value):
        """Set a number of this namespace's kernel, like ``net/ipv4/ip_forward``."""
        with open(f"/proc/sys/{name}", "w") as f:
            f.write(str(value))

    def start(self, *command, **settings):
        return subprocess.Popen([str(c) for c in command], **settings)


@contextlib.contextmanager
def namespace():
    """Put this thread, and the threads and processes that it starts, into a new network namespace with `lo` up. They
    may be nested."""
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    libc = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            pytest.skip(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            from iip.drivers.device import bring_up
            bring_up("lo")
            yield Namespace()
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                pytest.exit("cannot return from the test's network namespace", returncode=3)
    finally:
        os.close(before)


@pytest.fixture
def netns():
    """A namespace for one test."""
    with namespace() as ns:
        yield ns


@pytest.fixture(scope="module")
def netns_module():
    """A namespace for the tests of one module."""
    with namespace() as ns:
        yield ns
