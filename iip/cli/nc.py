"""`iip nc`: standard input and output over TCP or UDP, through a TAP or TUN device."""
from __future__ import annotations

import contextlib
import socket as standard
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import click

from iip.cli.common import device_options, errors, stack_on_device
from iip.socket import Stack, socket

Command = TypeVar("Command", bound=Callable[..., Any])

_CHUNK = 1 << 16
_DATAGRAM = 1400


def nameserver_option(command: Command) -> Command:
    return click.option("--nameserver", "nameservers", metavar="ADDRESS", multiple=True,
                        help="Ask it for names, through the stack (needs iip[dns]).")(command)


@click.command()
@click.argument("where", metavar="[HOST] PORT", nargs=-1)
@device_options
@nameserver_option
@click.option("-l", "--listen", is_flag=True, help="Accept one connection (or datagrams) instead of making one.")
@click.option("-u", "--udp", is_flag=True, help="Datagrams.")
@click.option("-w", "--timeout", type=click.FloatRange(0.001), help="Seconds to wait for a connection, and for datagrams after the "
              "end of standard input (then 1 by default).")
@errors
def nc(where: tuple[str, ...], listen: bool, udp: bool, timeout: float | None, nameservers: tuple[str, ...], **device: Any) -> None:
    """Standard input to HOST PORT and what comes back to standard output. The end of standard input is sent as FIN; the command
    ends when the peer's has come, too.

    Example: iip nc --tap tap0 --address 10.0.0.2/24 10.0.0.1 80; iip nc -l ... 7
    """
    if not 2 - listen <= len(where) <= 2 or not where[-1].isdecimal() or not 0 < int(where[-1]) < 65536:
        raise click.UsageError("write HOST PORT, or with -l PORT or an address of ours and PORT")
    host, port = where[0] if len(where) == 2 else None, int(where[-1])
    with stack_on_device(Stack, nameservers=nameservers, **device) as stack:
        if udp:
            _udp(stack, host, port, listen, timeout)
        else:
            _tcp(stack, host, port, listen, timeout)


def _family(stack: Stack) -> int:
    """IPv6, which takes IPv4 too, if the stack has it."""
    return standard.AF_INET6 if any(interface.version == 6 for interface in stack.engine.config.interfaces) else standard.AF_INET


def _tcp(stack: Stack, host: str | None, port: int, listen: bool, timeout: float | None) -> None:
    if listen:
        family = _family(stack) if host is None else standard.AF_INET6 if ":" in host else standard.AF_INET
        both = host is None and family == standard.AF_INET6
        with stack.create_server((host or "", port), family=family, dualstack_ipv6=both) as listener:
            listener.settimeout(timeout)
            sock, _peer = listener.accept()
    else:
        sock = stack.create_connection((host or "", port), timeout=timeout)
    with sock:
        sock.settimeout(None)
        sender = threading.Thread(target=_send, args=(sock,), daemon=True)
        sender.start()
        while data := sock.recv(_CHUNK):
            _out(data)
        if not sys.stdin.isatty():
            sender.join()


def _send(sock: socket) -> None:
    with contextlib.suppress(OSError):        # the peer has gone: the reader knows
        while data := sys.stdin.buffer.read1(_CHUNK):  # type: ignore[union-attr]
            sock.sendall(data)
        sock.shutdown(standard.SHUT_WR)


def _out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _udp(stack: Stack, host: str | None, port: int, listen: bool, timeout: float | None) -> None:
    family = stack.getaddrinfo(host, port)[0][0] if host else _family(stack)
    with stack.socket(family, standard.SOCK_DGRAM) as sock:
        if listen:
            sock.bind((host or "", port))
            data, peer = sock.recvfrom(65535)
            sock.connect(peer)
            _out(data)
        else:
            sock.connect((host, port))
        over = threading.Event()
        sender = threading.Thread(target=_send_datagrams, args=(sock, over), daemon=True)
        sender.start()
        while True:
            sock.settimeout(0.1 if not over.is_set() else timeout or 1.0)
            last = over.is_set()
            try:
                _out(sock.recv(65535))
            except TimeoutError:
                if last:
                    return


def _send_datagrams(sock: socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := sys.stdin.buffer.read1(_DATAGRAM):  # type: ignore[union-attr]
            sock.send(data)
    over.set()
