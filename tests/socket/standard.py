"""The standard library's own tests of sockets over iip: only which module and which names they get differs.

Within, `socket.socket` and the functions are those of a stack, "localhost" is its address by a hosts file of its own, and the
tests' constants for 127.0.0.1 and ::1 are its addresses.

    python -m tests.socket.standard [Class ...]       # which tests use it, and how they end
"""
import contextlib
import gc
import io
import json
import socket
import sys
import tempfile
import unittest
import warnings

import iip.socket
import iip.socket.base
from iip.aio import names
from iip.drivers import MemoryLink

MODULE = "test.test_socket"
V4, V6 = "10.0.0.1", "fd00::1"
# of other families than AF_INET and AF_INET6, other protocols than TCP, UDP and ICMP, or other systems
ELSEWHERE = (
    "CAN", "ISOTP", "J1939", "RDS", "QIPCRTR", "VSOCK", "Bluetooth", "UDPLITE", "SCTP", "Unix", "TIPC", "SCMRights", "Abstract",
    "Crypto", "MacOS", "MSWindows", "Sharing", "SendRecvFds", "SocketPair", "CmsgMacro", "Nonblock", "TestExceptions")
SENDFILE = "calls os.sendfile, which needs a kernel's socket; sendfile() of a stack's reads the file"
_PYTHON = "counts references of an argument, which the traceback of a function in Python holds"
_FLAG = "looks at the flags of the descriptor, which are not the socket's"
_ONE = "is about zones of addresses (%eth0): a stack has one interface"
IMPOSSIBLE = {
    "GeneralModuleTests.testRefCountGetNameInfo": _PYTHON,
    "GeneralModuleTests.test__sendfile_use_sendfile": SENDFILE,
    "NonBlockingTCPTests.testSetBlocking": _FLAG,
    "NonBlockingTCPTests.testSetBlocking_overflow": _FLAG,

    "NetworkConnectionNoServer.test_create_connection_timeout": "puts a class of its own in place of socket.socket",
    "GeneralModuleTests.test_unknown_socket_family_repr": "claims another family for a descriptor",
    "GeneralModuleTests.test_getaddrinfo_ipv6_scopeid_symbolic": _ONE,
    "GeneralModuleTests.test_getnameinfo_ipv6_scopeid_symbolic": _ONE,
}

SLOW = ("NetworkConnectionBehaviour", "InterruptedTimeout", "testReadAfterTimeout", "interrupted_with_timeout")
ANCILLARY = "is about ancillary data (RFC 3542), which a stack's sockets do not have"

used = set()                      # ids of the tests that made a socket of iip
current = None

def _counting(make):
    def __init__(self, *arguments, **settings):
        used.add(current)
        make(self, *arguments, **settings)
    return __init__

def inward(host):
    """The stack's address in place of the loopback device's."""
    return names.literal({"127.0.0.1": V4, "::1": V6}.get(host, host))


def tests():
    module = __import__(MODULE, fromlist=["*"])
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and issubclass(value, unittest.TestCase) and not any(word in name for word in ELSEWHERE):
            value.setUpClass()
            yield from unittest.defaultTestLoader.loadTestsFromTestCase(value)
            value.tearDownClass()

def outcome(test):
    """"passed", "skipped", or the last line of the failure."""
    global current  # noqa: PLW0603
    current = test.id().removeprefix(MODULE + ".")
    whole = {"CreateServerTest.test_address": "compares with 127.0.0.1", "RFC3542": ANCILLARY, "SendfileUsingSendfile": SENDFILE}
    reason = next((why for word, why in whole.items() if word in current), IMPOSSIBLE.get(current))
    if reason:
        used.add(current)
        return f"left out: {reason}"
    result = unittest.TestResult()
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test.run(result)
    if result.skipped:
        return f"skipped: {result.skipped[0][1]}"
    bad = result.errors + result.failures
    if bad and VERBOSE:
        print(bad[0][1])
    return bad[0][1].strip().splitlines()[-1] if bad else "passed"

VERBOSE = False

def outcomes(classes=(), slow=True):
    """{test: how it ended} of the tests that used a stack; slow: also those that wait for seconds."""
    from test.support import socket_helper

    found = {}
    gc.freeze()                   # the tests collect garbage all the time
    with tempfile.NamedTemporaryFile("w", suffix="hosts") as hosts:
        hosts.write(f"{V4} localhost iip.test\n{V6} localhost ip6-localhost\n{V4} {socket.gethostname()}\n")
        hosts.flush()
        link = MemoryLink()
        with iip.socket.Stack(link.a, addresses=[f"{V4}/24", f"{V6}/64"], hosts=hosts.name, time_wait=0.1) as stack:
            socket_helper.HOST, socket_helper.HOSTv4, socket_helper.HOSTv6 = "localhost", V4, V6
            module = __import__(MODULE, fromlist=["*"])
            module.HOST = "localhost"
            literal, iip.socket.base.literal = iip.socket.base.literal, inward
            made = iip.socket.socket.__init__
            iip.socket.socket.__init__ = _counting(made)
            try:
                with iip.socket.installed(stack):
                    for test in tests():
                        if classes and not any(test.id().removeprefix(MODULE + ".").startswith(name) for name in classes):
                            continue
                        if not slow and any(word in test.id() for word in SLOW):
                            continue
                        if VERBOSE:
                            print(test.id(), end=": ", flush=True)
                        ended = outcome(test)
                        if VERBOSE:
                            print(ended, flush=True)
                        if current in used:
                            found[current] = ended
            finally:
                iip.socket.socket.__init__ = made
                iip.socket.base.literal = literal
        assert stack.engine.pool.full
    return found

if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(outcomes(slow=False)))
    else:
        VERBOSE = True
        ended = outcomes(sys.argv[1:])
        print(sum(how == "passed" for how in ended.values()), "of", len(ended))
