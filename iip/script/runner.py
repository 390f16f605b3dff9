"""Plays one script against one engine in virtual time."""
from __future__ import annotations

import errno as errno_module
import os
from dataclasses import dataclass, fields, replace
from typing import Any

import iip
from iip.errors import IipError
from iip.script.calls import Calls
from iip.script.clock import Window, window_of
from iip.script.code import run_code
from iip.script.constants import symbols
from iip.script.errors import CallFailed, Mismatch, ScriptError, Unsupported, WouldBlock
from iip.script.flows import SYN, Flow, Flows
from iip.script.injection import Injector
from iip.script.matching import differences, packet_text, received_text
from iip.script.packet_grammar import ACK, AE, CWR, ECE, FIN, PSH
from iip.script.packets import TCP, Live
from iip.script.settings import Settings
from iip.script.shell import run_shell
from iip.script.socket_options import SocketOptions
from iip.script.sockets import Descriptor, Socket, TcpSocket, UdpSocket
from iip.script.stack import Stack
from iip.script.syntax import CallEvent, CodeEvent, Event, PacketEvent, Script, ShellEvent, TcpPacket, Word
from iip.script.sysctl import CONGESTION
from iip.script.values import Values, matches

PATIENCE = 60_000_000             # µs after which a packet or a call will not come any more
LONG_AGO = 3_600_000_000
CALL_PATIENCE = 600_000_000
SETTINGS = frozenset(f.name for f in fields(iip.Config))
JOINED = FIN | PSH | ACK | ECE | CWR | AE      # flags of segments that a device has cut
SHOWN = 12                        # packets of a failure's dump
# cookies that scripts call by name where the test bed defines none
COOKIES = {"TFO_COOKIE": "3021b9d889017eeb", "TFO_COOKIE_ZERO": "b7c12350a90dc8f5"}


@dataclass
class Pending:
    """A call that has not returned."""

    event: Event
    call: CallEvent
    window: Window | None             # when it has to return
    deadline: int | None              # its own timeout
    result: Any = None
    errno: str | None = None
    done_at: int | None = None
    failure: ScriptError | None = None


class Runner:
    def __init__(self, script: Script, settings: Settings, seed: int = 1):
        self.script, self.settings = script, settings
        for name, value, line in script.options:
            settings.option(name, value, line)
        self.output: list[str] = []           # what blocks of Python printed
        self.python: dict[str, Any] = {}      # their names
        self.warnings: list[str] = []
        self._stack: Stack | None = None
        for text, line in script.init:
            run_shell(self, text, line)
        self.symbols = symbols(settings.personality)
        self.value = Values(self.symbols, settings.defines)
        if settings.mtu is None and settings.wire_version == 6:
            settings.mtu = 1520               # so that the MSS is that of IPv4
        settings.fastopen(script)
        self._stack = self._make_stack(seed)
        self.flows = Flows(settings.ts_tick, settings.tolerance)
        self._stack.observer = self._left
        self.options = SocketOptions(self)
        self.calls = Calls(self)
        self.injector = Injector(self)
        self.pending: Pending | None = None
        self.subject: tuple[str, Any] = ("none", None)
        self.sockets: list[Socket] = []
        self.latest_tcp: TcpSocket | None = None
        self.merged: Live | None = None

    def _make_stack(self, seed: int) -> Stack:
        try:
            return Stack(self.settings.engine_config(), seed)
        except iip.ConfigError as error:
            raise Unsupported(f"what the script sets: {error}") from None

    @property
    def stack(self) -> Stack:
        assert self._stack is not None
        return self._stack

    def close(self) -> None:
        if self._stack is not None:
            self._stack.close()

    # -- settings that scripts change ------------------------------------------------------------------------

    def reconfigure(self, **changes: Any) -> None:
        """Settings of the stack, before it is made or while it runs."""
        lacking = [name for name in changes if name not in SETTINGS]
        if lacking:
            raise Unsupported(f"the setting {lacking[0]}")
        if self._stack is None:
            self.settings.config.update(changes)
            return
        try:
            self._stack.engine.reconfigure(**changes)
        except iip.ConfigError as error:
            raise Unsupported(f"a change of {', '.join(changes)} while the stack runs ({error})") from None

    def sleep(self, microseconds: int) -> None:
        """A command that takes time; before the script begins it takes none."""
        if self._stack is not None:
            self._advance(self.stack.now + microseconds)

    def buffers_changed(self) -> None:
        """Sizes of buffers were set: new connections of a running stack get them."""
        if self._stack is not None:
            self.reconfigure(**self.settings.buffers())

    def receive_space(self, space: int, fixed: bool) -> None:
        """SO_RCVBUF before a SYN. `fixed`: the window scale is for it, and not for what buffers may grow to."""
        changes = {"receive_buffer": max(2048, space)}
        if fixed or space > self.stack.engine.config.receive_buffer_max:
            changes["receive_buffer_max"] = changes["receive_buffer"]
        self.reconfigure(**changes)

    def reconfigure_ttl(self, value: int) -> None:
        raise Unsupported("IP_TTL of TCP sockets")

    def congestion(self, name: str) -> str:
        """The engine's name of an algorithm."""
        return CONGESTION.get(name, name)

    def congestion_name(self) -> str:
        name = self.stack.engine.config.congestion
        return str({v: k for k, v in reversed(CONGESTION.items())}.get(name, name))

    def errno_number(self, name: str) -> int:
        return int(getattr(errno_module, name, 0))

    # -- what the calls tell ---------------------------------------------------------------------------------

    def new_socket(self, s: Socket) -> None:
        self.sockets.append(s)
        if isinstance(s, TcpSocket):
            self.latest_tcp = s

    def default_address(self, role: str) -> tuple[Any, int]:
        """What `...` stands for as the address of a call."""
        if role == "bind":
            return None, self.settings.bind_port
        return self.settings.address("remote"), self.settings.connect_port

    def subject_listen(self, s: TcpSocket) -> None:
        self.subject = ("listen", s)

    def subject_connect(self, s: TcpSocket) -> None:
        self.latest_tcp = s
        self.stack.run()
        assert s.local is not None and s.remote is not None
        self.subject = ("flow", self.flows.get(*s.local, *s.remote))

    def subject_child(self, s: TcpSocket) -> None:
        self.latest_tcp = s
        self.sockets.append(s)

    def subject_udp(self, s: Socket, to: tuple[Any, int] | None = None) -> None:
        if isinstance(s, UdpSocket):
            if to is not None:
                s.spoken_to = to
            self.subject = ("udp", s)

    def knows_cookie(self, address: Any) -> bool:
        """Whether a server at that address has given us a Fast Open cookie."""
        return address in self.injector.cookies

    def syn_carried_data(self, s: TcpSocket) -> bool:
        assert s.local is not None
        return any(p.protocol == TCP and p.sport == s.local[1] and p.flags & SYN and p.data for p in self.stack.sent)

    def progress(self, s: TcpSocket) -> int:
        """How much of the blocking write at hand is queued already."""
        return s.progress if self.pending is not None and not self.pending.done_at else 0

    def waiting_for(self, event: CallEvent) -> bool:
        """Whether this is another attempt at a call that blocks."""
        return self.pending is not None and self.pending.call is event

    def _left(self, p: Live) -> None:
        """A packet left: what it tells of its connection, and when bytes left whose time somebody wants to know."""
        self.flows.sent(p)
        for s in self.sockets:
            if p.data and p.protocol == TCP and isinstance(s, TcpSocket) and s.error_queue.stamps and s.remote == (
                    p.destination, p.dport) and s.local and s.local[1] == p.sport:
                iss = self.flows.of(p).iss or 0
                s.error_queue.left(((p.seq - iss - 1) & 0xFFFFFFFF) + len(p.data), p.at)

    # -- playing -------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Raises what the script ends with, if it does not pass."""
        for event in self.script.events:
            try:
                self._play(event)
            except ScriptError as error:
                error.line = error.line or event.line
                raise
            except IipError as error:
                raise Unsupported(f"what this event needs: {error}", event.line) from None
        self._await_call()

    def _play(self, event: Event) -> None:
        body = event.body
        if isinstance(body, PacketEvent) and body.direction == ">":
            self._expect_packet(event, body)
            return
        window = window_of(event.time, self.stack.now, self.settings)
        if isinstance(body, CallEvent):
            self._await_call()
        self._advance(window.start if not event.time.any_time else self.stack.now)
        if isinstance(body, PacketEvent):
            self.injector.inject(self._named(body))
            self._retry_call()
        elif isinstance(body, CallEvent):
            self._call(event, body)
        elif isinstance(body, CodeEvent):
            run_code(self, body.text, event.line)
        else:
            assert isinstance(body, ShellEvent)
            run_shell(self, body.text, event.line)
            self.stack.run()

    def _advance(self, to: int) -> None:
        """Let time pass, with the engine's deadlines and those of the call that waits on the way."""
        while True:
            limit = to
            pending = self.pending
            if pending is not None and pending.deadline is not None and pending.done_at is None:
                limit = min(to, pending.deadline)
            more = self.stack.step(limit)
            self._retry_call()
            if not more and limit >= to:
                return

    # -- calls ---------------------------------------------------------------------------------------------

    def _call(self, event: Event, call: CallEvent) -> None:
        now = self.stack.now
        until = None
        if event.time.until is not None:
            until = window_of(replace(event.time, start=event.time.until, end=None, until=None),
                              event_base(event, now), self.settings)
        self.calls.expired = False
        try:
            result, failed = self.calls.perform(call), None
        except CallFailed as error:
            result, failed = -1, error.errno
        except WouldBlock as blocked:
            deadline = None if blocked.timeout is None else now + blocked.timeout
            self.pending = Pending(event, call, until, deadline)
            self.stack.run()
            if until is None:
                self._await_call()
            return
        self._check_result(call, result, failed)
        if until is not None and not until.contains(now):
            raise Mismatch("the call returned at once", expected=f"a return at {until}", actual=f"{now / 1e6:.6f}")
        self.stack.run()

    def _retry_call(self) -> None:
        """Try the call that waits again."""
        pending = self.pending
        if pending is None or pending.done_at is not None:
            return
        self.calls.expired = pending.deadline is not None and self.stack.now >= pending.deadline
        try:
            pending.result = self.calls.perform(pending.call)
        except CallFailed as error:
            pending.result, pending.errno = -1, error.errno
        except WouldBlock:
            return
        except ScriptError as error:
            pending.failure = error
        finally:
            self.calls.expired = False
        pending.done_at = self.stack.now
        self.stack.run()

    def _await_call(self) -> None:
        """Calls are made one after another: the next waits for the one that blocks."""
        pending = self.pending
        if pending is None:
            return
        limit = self.stack.now + CALL_PATIENCE
        while pending.done_at is None:
            bound = limit if pending.deadline is None else min(limit, pending.deadline)
            more = self.stack.step(bound)
            self._retry_call()
            if not more and pending.done_at is None and self.stack.now >= bound and bound == limit:
                raise Mismatch(f"{pending.call.name}() does not return", pending.event.line)
        self.pending = None
        for s in self.sockets:
            if isinstance(s, TcpSocket):
                s.progress = 0
        try:
            if pending.failure is not None:
                raise pending.failure
            self._check_result(pending.call, pending.result, pending.errno)
            if pending.window is not None and not pending.window.contains(pending.done_at):
                raise Mismatch(f"{pending.call.name}() returned at another time", expected=str(pending.window),
                               actual=f"{pending.done_at / 1e6:.6f}")
        except ScriptError as error:
            error.line = error.line or pending.event.line
            raise

    def _check_result(self, call: CallEvent, result: int, failed: str | None) -> None:
        if call.result is None and call.errno is None:
            return
        expected = self.calls.expected
        came = f"-1 {failed} ({os.strerror(self.errno_number(failed))})" if failed else str(result)
        wanted = f"-1 {call.errno}" if call.errno else repr(call.result)
        if call.errno is not None:
            good = failed == call.errno
        else:
            expected = tuple(map(self.value, call.result)) if isinstance(call.result, tuple) else expected
            good = matches(expected, result) and (failed is None or expected == -1 or not isinstance(expected, int))
        if not good:
            raise Mismatch(f"{call.name}() returned something else", expected=wanted, actual=came)

    # -- packets that leave ----------------------------------------------------------------------------------

    def _named(self, packet: PacketEvent) -> PacketEvent:
        """The packet with cookies in place of their names."""
        body = packet.body
        if not isinstance(body, TcpPacket) or not any(isinstance(o.value, Word) for o in body.options):
            return packet
        options = tuple(replace(o, value=self._cookie(o.value)) if isinstance(o.value, Word) else o for o in body.options)
        return replace(packet, body=replace(body, options=options))

    def _cookie(self, word: Word) -> bytes:
        value = self.settings.defines.get(word.name, COOKIES.get(word.name))
        if value is None:
            raise Unsupported(f"the name {word.name}")
        try:
            return bytes.fromhex(value if isinstance(value, str) else f"{value:016x}")
        except ValueError:
            raise Unsupported(f"the cookie {word.name}={value}") from None

    def _expect_packet(self, event: Event, expected: PacketEvent) -> None:
        expected = self._named(expected)
        window = window_of(event.time, self.stack.now, self.settings)
        last = self.stack.now + LONG_AGO if event.time.any_time else window.end + PATIENCE
        while not self.stack.sent:
            if not self._advance_to_packet(last):
                raise Mismatch("no packet left", expected=event.source, actual="nothing" + (
                    "" if event.time.any_time else f" until {last / 1e6:.6f}"))
        p = self._take(expected)
        flow = self.flows.of(p) if p.protocol == TCP else None
        found = differences(expected, p, flow)
        if not event.time.any_time and not window.contains(p.at):
            found.append(f"time: expected {window}, got {p.at / 1e6:.6f}")
        if found:
            raise Mismatch("; ".join(found), expected=event.source, actual=f"{p.at / 1e6:.6f} > {packet_text(p, flow)}")

    def _advance_to_packet(self, last: int) -> bool:
        """One step in time; False when `last` has come and nothing left."""
        pending = self.pending
        bound = last
        if pending is not None and pending.deadline is not None and pending.done_at is None:
            bound = min(last, pending.deadline)
        more = self.stack.step(bound)
        self._retry_call()
        return bool(self.stack.sent) or more or bound < last

    def _take(self, expected: PacketEvent) -> Live:
        """The next packet; segments sent back to back are one when the script sees a packet of several segments, as it
        leaves a system whose device cuts them."""
        p = self.stack.sent.popleft()
        body = expected.body
        if not isinstance(body, TcpPacket) or p.protocol != TCP:
            return p
        while len(p.data) < body.length and self.stack.sent:
            more = self.stack.sent[0]
            if (more.protocol != TCP or more.sport != p.sport or more.dport != p.dport or not p.data or not more.data
                    or more.seq != (p.seq + len(p.data)) & 0xFFFFFFFF or more.at != p.at or p.flags & ~JOINED
                    or (p.flags ^ more.flags) & (AE | ECE) or more.flags & ~p.flags & CWR
                    or len(p.data) + len(more.data) > body.length):
                break
            self.stack.sent.popleft()
            p = replace(more, seq=p.seq, data=p.data + more.data, flags=p.flags | more.flags, merged=p.merged + 1)
        return p

    # -- showing -------------------------------------------------------------------------------------------

    def dump(self) -> list[str]:
        """The last packets, in the language."""
        lines = []
        for direction, p in list(self.stack.log)[-SHOWN:]:
            flow: Flow | None = None
            if p.protocol == TCP:
                flow = self.flows.of(p) if direction == ">" else self.flows.get(p.destination, p.dport, p.source, p.sport)
            text = packet_text(p, flow) if direction == ">" else received_text(p, flow)
            lines.append(f"{p.at / 1e6:.6f} {direction} {text}")
        return lines

    def descriptors(self) -> dict[int, Descriptor]:
        return self.calls.descriptors


def event_base(event: Event, now: int) -> int:
    """The time that relative times of a call count from: before its own start."""
    return now - event.time.start if event.time.relative else 0
