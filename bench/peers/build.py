"""How each peer is built: a function that returns the command to run, or raises `Absent` with the reason why not.

    python -m bench.peers.build lwip /tmp/peers         # builds one and prints its command
"""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


class Absent(Exception):
    """What is missing, and where it comes from."""


def compiled(command, result, **settings):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=900, **settings)
    if done.returncode:
        raise Absent(f"does not compile: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return [str(result)]


def need(what, where):
    if not what:
        raise Absent(where)


def module(name, package):
    need(importlib.util.find_spec(name), f"no module {name}: pip install {package}")


def iip(*arguments):
    def build(_directory):
        return [sys.executable, str(HERE / "ours.py"), *arguments]
    return build


def loopback(directory):
    need(sys.platform.startswith("linux"), "epoll is Linux's")
    need(shutil.which("cc"), "no C compiler")
    return compiled(["cc", "-O2", "-o", directory / "loopback", HERE / "loopback.c"], directory / "loopback")


def lwip(directory):
    need(shutil.which("cc"), "no C compiler")
    need(Path("/usr/include/lwip/lwip/tcp.h").exists(), "no lwIP: apt install liblwip-dev")
    return compiled(["cc", "-O2", "-I/usr/include/lwip", "-o", directory / "lwip", HERE / "lwip.c", "-llwip"], directory / "lwip")


def asyncio(_directory):
    return [sys.executable, str(HERE / "loops.py"), "asyncio"]


def uvloop(_directory):
    module("uvloop", "uvloop")
    return [sys.executable, str(HERE / "loops.py"), "uvloop"]


def pytcp(_directory):
    module("pmd_pytcp", "pmd-pytcp")
    return [sys.executable, str(HERE / "pytcp_pair.py")]


def netstack(directory):
    need(shutil.which("go"), "no Go: apt install golang-go")
    root = Path("/usr/share/gocode")
    need((root / "src/gvisor.dev/gvisor/pkg/tcpip").is_dir(), "no gVisor sources: apt install golang-gvisor-gvisor-dev")
    return compiled(["go", "build", "-o", directory / "netstack", HERE / "netstack.go"], directory / "netstack",
                    env={**os.environ, "GO111MODULE": "off", "GOPATH": str(root), "GOCACHE": str(directory / "go-cache")})


# name: (build, what computes checksums, the most connections it is asked for)
PEERS = {
    "iip, Cython": (iip("cython", "1"), "left out", None),
    "iip, Cython, checksums": (iip("cython", "0"), "software", None),
    "iip, Python, batches": (iip("batch", "1"), "left out", None),
    "iip, Python": (iip("python", "1"), "left out", None),
    "lwIP": (lwip, "software", None),
    "gVisor netstack": (netstack, "software", None),
    "Linux, epoll in C": (loopback, "left out", None),
    "Linux, uvloop": (uvloop, "left out", None),
    "Linux, asyncio": (asyncio, "left out", None),
    "PyTCP": (pytcp, "software", 32),
}


def main():
    by_name = {build.__name__: build for build, *_ in PEERS.values()}
    name, directory = sys.argv[1], Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    print(*by_name[name](directory))


if __name__ == "__main__":
    main()
