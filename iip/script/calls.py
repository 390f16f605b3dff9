"""The calls of the language, carried out on the thin sockets. Each `call_NAME` returns the result or raises
CallFailed, WouldBlock or Unsupported; what it gives back through its arguments it compares itself."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iip.script.epoll import Epoll
from iip.script.error_queue import control_messages
from iip.script.errors import CallFailed, Mismatch, Unsupported, WouldBlock
from iip.script.sockets import Descriptor, File, Pipe, Socket, TcpSocket, UdpSocket
from iip.script.syntax import ANY, CallEvent, Struct, Word
from iip.script.values import matches, socket_address

if TYPE_CHECKING:
    from iip.script.runner import Runner

_FLAGS = {"MSG_PEEK": "peek", "MSG_DONTWAIT": "dontwait", "MSG_WAITALL": "waitall", "MSG_MORE": "more",
          "MSG_NOSIGNAL": "nosignal", "MSG_TRUNC": "trunc", "MSG_EOR": "eor", "MSG_EOF": "eof", "MSG_NBIO": "dontwait",
          "MSG_FASTOPEN": "fastopen", "MSG_ZEROCOPY": "zerocopy"}
_MAX_BUFFER = 1 << 26


class Calls:
    def __init__(self, runner: Runner):
        self.runner = runner
        self.value = runner.value
        self.symbols = runner.symbols
        self.descriptors: dict[int, Descriptor] = {}
        self.expired = False                  # the timeout of the call at hand has passed
        self.expected: Any = None             # the result that the script wants

    # -- doing one -----------------------------------------------------------------------------------------

    def perform(self, event: CallEvent) -> int:
        """The result. Raises CallFailed, WouldBlock, Mismatch, Unsupported."""
        method = getattr(self, f"call_{event.name}", None)
        if method is None:
            raise Unsupported(f"the call {event.name}()")
        self.expected = None if event.result is None else self.value(event.result)
        args = [self.value(a) for a in event.arguments]
        try:
            return int(method(args, event))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise Unsupported(f"this form of {event.name}() ({type(error).__name__}: {error})") from error

    def flags(self, args: list[Any], at: int) -> set[str]:
        """MSG_* at that place."""
        if len(args) <= at or args[at] is ANY:
            return set()
        left = args[at]
        found = set()
        for name, word in _FLAGS.items():
            bit = self.symbols.get(name)
            if bit and left & bit == bit:
                found.add(word)
                left &= ~bit
        if left:
            names = [n for n, v in self.symbols.items() if n.startswith("MSG_") and v and v & left == v]
            raise Unsupported(" or ".join(names) or f"the flag {left:#x}")
        return found

    def fd(self, number: Any) -> Descriptor:
        found = self.descriptors.get(number) if isinstance(number, int) else None
        if found is None:
            raise CallFailed("EBADF")
        return found

    def socket(self, number: Any) -> Any:
        found = self.fd(number)
        if not isinstance(found, Socket):
            raise CallFailed("ENOTSOCK")
        return found

    def tcp(self, number: Any) -> TcpSocket:
        found = self.socket(number)
        if not isinstance(found, TcpSocket):
            raise CallFailed("EOPNOTSUPP")
        return found

    def add(self, descriptor: Descriptor, wish: Any = None) -> int:
        """A number for a new descriptor: the one that the script expects, if it is free."""
        wish = self.expected if wish is None else wish
        if not isinstance(wish, int) or wish < 0 or wish in self.descriptors:
            wish = next(n for n in range(3, 1 << 16) if n not in self.descriptors)
        self.descriptors[wish] = descriptor
        return int(wish)

    def compare(self, what: str, expected: Any, actual: Any) -> None:
        if expected is not ANY and not matches(expected, actual):
            raise Mismatch(f"{what} differs", expected=repr(expected), actual=repr(actual))

    def block(self, descriptor: Descriptor, flags: Iterable[str] = (), timeout: Any = None) -> None:
        """Nothing to return yet: fail with EAGAIN or wait."""
        if descriptor.nonblocking or "dontwait" in flags or self.expired:
            raise CallFailed("EAGAIN")
        raise WouldBlock(timeout)

    # -- making and ending ---------------------------------------------------------------------------------

    def call_socket(self, args: list[Any], event: CallEvent) -> int:
        domain, kind, protocol = (args + [ANY, ANY, ANY])[:3]
        s = self.symbols
        family = s["AF_INET6" if self.runner.settings.version != "4" else "AF_INET"] if domain is ANY else domain
        if family not in (s["AF_INET"], s["AF_INET6"]):
            raise Unsupported(f"sockets of the family {domain}")
        if protocol not in (ANY, 0, 6, 17):
            names = {132: "SCTP", 136: "UDP-Lite", 262: "MPTCP", 1: "ICMP sockets", 58: "ICMP sockets"}
            raise Unsupported(names.get(protocol, f"the protocol {protocol}"))
        nonblocking = bool(kind & s["SOCK_NONBLOCK"])
        kind &= ~(s["SOCK_NONBLOCK"] | s["SOCK_CLOEXEC"])
        if kind not in (1, 2):
            raise Unsupported(f"sockets of the type {event.arguments[1]!r}")
        if protocol in (6, 17) and protocol != (6 if kind == 1 else 17):
            raise CallFailed("EPROTONOSUPPORT")
        made = (TcpSocket if kind == 1 else UdpSocket)(self.runner.stack, self.runner.settings.wire_version, family)
        made.nonblocking = nonblocking
        self.runner.new_socket(made)
        return self.add(made)

    def _address(self, value: Any, role: str) -> tuple[Any, int]:
        found = socket_address(value, self.symbols)
        if found is None:
            return self.runner.default_address(role)
        address, port, family = found
        if family == 0:
            return None, -1
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if int(address) == 0:
            address = None
        return address, port

    def call_bind(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        s.bind(*self._address(args[1], "bind"))
        self.runner.subject_udp(s)
        return 0

    def call_listen(self, args: list[Any], event: CallEvent) -> int:
        s = self.tcp(args[0])
        s.listen(args[1] if args[1] is not ANY else 1)
        self.runner.subject_listen(s)
        return 0

    def call_accept(self, args: list[Any], event: CallEvent) -> int:
        return self._accept(args, False)

    def call_accept4(self, args: list[Any], event: CallEvent) -> int:
        flags = args[3] if len(args) > 3 and args[3] is not ANY else 0
        return self._accept(args, bool(flags & self.symbols["SOCK_NONBLOCK"]))

    def _accept(self, args: list[Any], nonblocking: bool) -> int:
        listener = self.tcp(args[0])
        try:
            child = listener.accept()
        except WouldBlock:
            self.block(listener)
            raise
        child.nonblocking = nonblocking
        if len(args) > 1 and args[1] is not ANY and child.remote:
            self._compare_address(args[1], child.remote)
        self.runner.subject_child(child)
        return self.add(child)

    def _compare_address(self, expected: Any, actual: tuple[Any, int]) -> None:
        found = socket_address(expected, self.symbols)
        if found is not None:
            self.compare("the address", str(found[0]), str(actual[0]))
            if isinstance(found[1], int) and found[1]:
                self.compare("the port", found[1], actual[1])

    def call_connect(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        if isinstance(s, TcpSocket) and self.runner.waiting_for(event):
            return s.wait_connected()
        address, port = self._address(args[1], "connect")
        if port == -1:
            if isinstance(s, TcpSocket):
                s.disconnect()
            else:
                s.remote = None
            return 0
        s.connect(address, port)
        if not isinstance(s, TcpSocket):
            self.runner.subject_udp(s)
            return 0
        if s.phase == "connected":
            return 0
        self.runner.subject_connect(s)
        if s.nonblocking:
            raise CallFailed("EINPROGRESS")
        return s.wait_connected()

    def call_close(self, args: list[Any], event: CallEvent) -> int:
        descriptor = self.fd(args[0])
        if not self.runner.waiting_for(event):
            others = [n for n, d in self.descriptors.items() if d is descriptor]
            if len(others) == 1:
                descriptor.close()
        lingering = isinstance(descriptor, TcpSocket) and not descriptor.nonblocking and descriptor.lingers()
        if lingering and not self.expired:
            assert isinstance(descriptor, TcpSocket)
            raise WouldBlock(descriptor.options["SO_LINGER"][1] * 1_000_000)
        del self.descriptors[args[0]]
        return 0

    def call_shutdown(self, args: list[Any], event: CallEvent) -> int:
        self.socket(args[0]).shutdown(args[1])
        return 0

    def call_dup(self, args: list[Any], event: CallEvent) -> int:
        return self.add(self.fd(args[0]))

    def call_dup2(self, args: list[Any], event: CallEvent) -> int:
        self.descriptors[args[1]] = self.fd(args[0])
        return int(args[1])

    # -- receiving -----------------------------------------------------------------------------------------

    def _read(self, number: Any, n: int, flags: set[str]) -> bytes:
        descriptor = self.fd(number)
        try:
            return descriptor.read(n, flags)
        except WouldBlock:
            self.block(descriptor, flags, descriptor.timeout("SO_RCVTIMEO"))
            raise

    def _size(self, value: Any) -> int:
        return _MAX_BUFFER if value is ANY else int(value)

    def call_read(self, args: list[Any], event: CallEvent) -> int:
        data = self._read(args[0], self._size(args[2]), set())
        self.compare("the data", args[1], data)
        return len(data)

    def call_recv(self, args: list[Any], event: CallEvent) -> int:
        flags = self.flags(args, 3)
        data = self._read(args[0], self._size(args[2]), flags)
        if "trunc" not in flags:
            self.compare("the data", args[1], data)
        return len(data)

    def call_recvfrom(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        flags = self.flags(args, 3)
        if isinstance(s, TcpSocket):
            return self.call_recv(args, event)
        try:
            data, source, port, whole = s.receive(self._size(args[2]), flags)
        except WouldBlock:
            self.block(s, flags, s.timeout("SO_RCVTIMEO"))
            raise
        self.compare("the data", args[1], data)
        if len(args) > 4 and args[4] is not ANY and source is not None:
            self._compare_address(args[4], (source, port))
        return whole if "trunc" in flags else len(data)

    def _vector(self, value: Any) -> list[tuple[Any, int]]:
        """(data, length) of an iovec array."""
        items = value if isinstance(value, list) else [value]
        out = []
        for item in items:
            if isinstance(item, Struct):
                data = item.get("iov_base", 0, default=ANY)
                length = item.get("iov_len", 1, default=ANY)
            else:
                data, length = item[0], item[1]
            if length is ANY:
                length = len(data) if isinstance(data, (str, bytes)) else 0
            out.append((data, int(length)))
        return out

    def _scatter(self, number: Any, vector: list[tuple[Any, int]], flags: set[str]) -> int:
        data = self._read(number, sum(n for _, n in vector), flags)
        at = 0
        for expected, n in vector:
            piece = data[at:at + n]
            if isinstance(expected, (str, bytes)) and piece:
                self.compare("the data", expected[:len(piece)] if len(piece) < n else expected, piece)
            at += n
        return len(data)

    def call_readv(self, args: list[Any], event: CallEvent) -> int:
        return self._scatter(args[0], self._vector(args[1]), set())

    def call_recvmsg(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        message = args[1]
        control = message.get("msg_control", default=ANY) if isinstance(message, Struct) else ANY
        if args[2:] and args[2] is not ANY and args[2] & self.symbols.get("MSG_ERRQUEUE", 0):
            return self._error_queue(s, message, control)
        flags = self.flags(args, 2)
        inq = isinstance(s, TcpSocket) and s.options.get("TCP_INQ")
        if control not in (ANY, [], 0) and not inq:
            raise Unsupported("control messages")
        vector = self._vector(message.get("msg_iov", default=[]))
        if isinstance(s, UdpSocket):
            try:
                data, source, port, whole = s.receive(sum(n for _, n in vector), flags)
            except WouldBlock:
                self.block(s, flags, s.timeout("SO_RCVTIMEO"))
                raise
            name = message.get("msg_name", default=ANY)
            if name is not ANY and source is not None:
                self._compare_address(name, (source, port))
            got = self.symbols["MSG_TRUNC"] if whole > len(data) else 0
            self.compare("msg_flags", message.get("msg_flags", default=ANY), got)
            return len(data)
        n = self._scatter(args[0], vector, flags)
        if inq:
            self._compare_control(control, [{"cmsg_level": self.symbols["SOL_TCP"], "cmsg_type": self.symbols["TCP_CM_INQ"],
                                             "cmsg_data": len(s.rx) or int(s.fin_received)}])
        return n

    def _error_queue(self, s: Any, message: Any, control: Any) -> int:
        entry = self.tcp_only(s, "MSG_ERRQUEUE").error_queue.take()
        if entry is None:
            raise CallFailed("EAGAIN")
        flags = message.get("msg_flags", default=ANY)
        if flags is not ANY:
            bit = self.symbols["MSG_ERRQUEUE"]
            self.compare("msg_flags", flags & bit, bit)
        self._compare_control(control, control_messages(entry, self.symbols))
        return 0

    def tcp_only(self, s: Any, what: str) -> TcpSocket:
        if not isinstance(s, TcpSocket):
            raise Unsupported(f"{what} of UDP sockets")
        return s

    def _compare_control(self, expected: Any, actual: list[dict[str, Any]]) -> None:
        """Times may differ by the tolerance."""
        if expected is ANY:
            return
        for want, got in zip(expected, actual, strict=False):
            data = want.get("cmsg_data", 2, default=ANY)
            if isinstance(data, Struct) and isinstance(got["cmsg_data"], dict) and "scm_sec" in got["cmsg_data"]:
                told = data.get("scm_sec", 0, default=0) * 1_000_000 + data.get("scm_nsec", 1, default=0) // 1000
                came = got["cmsg_data"]["scm_sec"] * 1_000_000 + got["cmsg_data"]["scm_nsec"] // 1000
                if abs(told - came) <= self.runner.settings.tolerance:
                    got["cmsg_data"] = ANY
        self.compare("the control messages", expected, actual)

    # -- sending -------------------------------------------------------------------------------------------

    def _bytes(self, value: Any, length: Any) -> bytes:
        """`...` stands for any data of that length."""
        if isinstance(value, str):
            data = value.encode("latin-1")
            n = len(data) if length is ANY else int(length)
            return data[:n] + bytes(max(0, n - len(data)))
        if length is ANY:
            raise Unsupported("data of unknown length")
        if int(length) < 0:
            raise CallFailed("EFAULT")
        return bytes(int(length))

    def _write(self, number: Any, data: bytes, flags: set[str], to: tuple[Any, int] | None = None) -> int:
        descriptor = self.fd(number)
        if "zerocopy" in flags and isinstance(descriptor, UdpSocket):
            raise Unsupported("MSG_ZEROCOPY of UDP sockets")
        done = self._write_some(descriptor, data, flags, to)
        if done and isinstance(descriptor, TcpSocket):
            descriptor.error_queue.sent("zerocopy" in flags)
        return done

    def _write_some(self, descriptor: Descriptor, data: bytes, flags: set[str], to: tuple[Any, int] | None) -> int:
        if isinstance(descriptor, UdpSocket):
            return descriptor.write(data, flags, to)
        if not isinstance(descriptor, TcpSocket):
            return descriptor.write(data, flags)
        done = self.runner.progress(descriptor)
        try:
            done += descriptor.write(data[done:], flags)
        except WouldBlock:
            if done == 0 or not (descriptor.nonblocking or "dontwait" in flags or self.expired):
                self.block(descriptor, flags, descriptor.timeout("SO_SNDTIMEO"))
            return done
        except CallFailed:
            if done:
                return done
            raise
        if "eof" in flags:
            descriptor.shutdown(1)
        if done < len(data) and not descriptor.nonblocking and "dontwait" not in flags and not self.expired:
            descriptor.progress = done
            raise WouldBlock(descriptor.timeout("SO_SNDTIMEO"))
        return done

    def call_write(self, args: list[Any], event: CallEvent) -> int:
        return self._write(args[0], self._bytes(args[1], args[2]), set())

    def call_send(self, args: list[Any], event: CallEvent) -> int:
        return self._write(args[0], self._bytes(args[1], args[2]), self.flags(args, 3))

    def call_sendto(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        flags = self.flags(args, 3)
        to = None
        if len(args) > 4 and args[4] not in (0, None) and not (args[4] is ANY and (isinstance(s, TcpSocket) or s.remote)):
            to = self._address(args[4], "connect")
        if isinstance(s, UdpSocket):
            self.runner.subject_udp(s, to)
        if "fastopen" in flags:
            return self._fast_open(s, args, event)
        return self._write(args[0], self._bytes(args[1], args[2]), flags, to)

    def _fast_open(self, s: TcpSocket, args: list[Any], event: CallEvent) -> int:
        """RFC 7413: connect, with the data in the SYN if there is a cookie; without one the data is not taken."""
        data = self._bytes(args[1], args[2])
        if self.runner.waiting_for(event):
            s.wait_connected()
            return self._write(args[0], data, set())
        address, port = self._address(args[4], "connect")
        known = self.runner.knows_cookie(address)
        s.connect(address, port, data if known else b"")
        self.runner.subject_connect(s)
        if known and self.runner.syn_carried_data(s):
            return len(data)
        if s.nonblocking:
            raise CallFailed("EINPROGRESS")
        raise WouldBlock

    def call_writev(self, args: list[Any], event: CallEvent) -> int:
        return self._write(args[0], b"".join(self._bytes(d, n) for d, n in self._vector(args[1])), set())

    def call_sendmsg(self, args: list[Any], event: CallEvent) -> int:
        s = self.socket(args[0])
        message = args[1]
        control = message.get("msg_control", default=None) if isinstance(message, Struct) else None
        if control not in (None, ANY, [], 0):
            raise Unsupported("control messages")
        data = b"".join(self._bytes(d, n) for d, n in self._vector(message.get("msg_iov", default=[])))
        to = None
        name = message.get("msg_name", default=None)
        if isinstance(s, UdpSocket) and name is not None and (name is not ANY or not s.remote):
            to = self._address(name, "connect")
        if isinstance(s, UdpSocket):
            self.runner.subject_udp(s, to)
        return self._write(args[0], data, self.flags(args, 2), to)

    def call_sendfile(self, args: list[Any], event: CallEvent) -> int:
        if not isinstance(self.fd(args[1]), File):
            raise CallFailed("EINVAL")
        return self._write(args[0], bytes(self._size(args[3])), set())

    # -- files and pipes -----------------------------------------------------------------------------------

    def call_open(self, args: list[Any], event: CallEvent) -> int:
        return self.add(File())

    def call_pipe(self, args: list[Any], event: CallEvent) -> int:
        buffer = bytearray()
        wanted = args[0] if isinstance(args[0], list) else [ANY, ANY]
        for end in wanted:
            self.add(Pipe(buffer), end)
        return 0

    def call_splice(self, args: list[Any], event: CallEvent) -> int:
        source, sink, n = self.fd(args[0]), self.fd(args[2]), self._size(args[4])
        if isinstance(source, Pipe) and isinstance(sink, TcpSocket):
            n = min(n, len(source.buffer), sink.send_room())
            if n == 0:
                self.block(source)
            return self._write(args[2], source.read(n), set())
        return sink.write(self._read(args[0], min(n, 1 << 16), set()))

    # -- waiting -------------------------------------------------------------------------------------------

    def _timeout(self, milliseconds: Any) -> Any:
        return None if milliseconds is ANY or milliseconds < 0 else milliseconds * 1000

    def call_poll(self, args: list[Any], event: CallEvent) -> int:
        structs = args[0] if isinstance(args[0], list) else [args[0]]
        ready = []
        for item in structs:
            number, wanted = item.get("fd", 0), item.get("events", 1, default=0)
            descriptor = self.descriptors.get(number)
            bits = 0x20 if descriptor is None else descriptor.ready() & (wanted | 8 | 16)
            ready.append(bits & 0xFFFF)
        if not any(ready) and args[2] != 0 and not self.expired:
            raise WouldBlock(self._timeout(args[2]))
        for item, bits in zip(structs, ready, strict=True):
            self.compare("revents", item.get("revents", 2, default=ANY), bits)
        return sum(1 for bits in ready if bits)

    def call_epoll_create(self, args: list[Any], event: CallEvent) -> int:
        return self.add(Epoll())

    call_epoll_create1 = call_epoll_create

    def call_epoll_ctl(self, args: list[Any], event: CallEvent) -> int:
        epoll = self.fd(args[0])
        if not isinstance(epoll, Epoll):
            raise CallFailed("EINVAL")
        self.fd(args[2])
        epoll.control(args[1], args[2], args[3] if len(args) > 3 else 0)
        return 0

    def call_epoll_wait(self, args: list[Any], event: CallEvent) -> int:
        epoll = self.fd(args[0])
        if not isinstance(epoll, Epoll):
            raise CallFailed("EINVAL")
        found = epoll.collect(self.descriptors, args[2])
        if not found and args[3] != 0 and not self.expired:
            raise WouldBlock(self._timeout(args[3]))
        expected = args[1] if isinstance(args[1], list) else [args[1]]
        for want, (bits, data) in zip(expected, found, strict=False):
            if isinstance(want, Struct):
                self.compare("events", want.get("events", 0, default=ANY), bits)
                self.compare("the data of the event", want.get("fd", "ptr", "u32", "u64", "data", 1, default=ANY), data)
        return len(found)

    def call_usleep(self, args: list[Any], event: CallEvent) -> int:
        if not self.expired:
            raise WouldBlock(args[0])
        return 0

    # -- descriptors and options ---------------------------------------------------------------------------

    def call_fcntl(self, args: list[Any], event: CallEvent) -> int:
        descriptor, s = self.fd(args[0]), self.symbols
        if args[1] == s["F_GETFL"]:
            return s["O_RDWR"] | (s["O_NONBLOCK"] if descriptor.nonblocking else 0)
        if args[1] == s["F_SETFL"]:
            descriptor.nonblocking = bool(args[2] & s["O_NONBLOCK"])
            return 0
        if args[1] in (s["F_GETFD"], s["F_SETFD"]):
            return 0
        if args[1] == s["F_DUPFD"]:
            return self.add(descriptor)
        raise Unsupported(f"fcntl({event.arguments[1]!r})")

    def call_ioctl(self, args: list[Any], event: CallEvent) -> int:
        descriptor = self.fd(args[0])
        word = event.arguments[1]
        name = word.name if isinstance(word, Word) else str(word)
        if name == "FIONBIO":
            value = args[2][0] if isinstance(args[2], list) else args[2]
            descriptor.nonblocking = bool(value)
            return 0
        if not isinstance(descriptor, TcpSocket):
            raise Unsupported(f"ioctl({name}) of what is no TCP socket")
        if name in ("SIOCINQ", "FIONREAD", "TIOCINQ"):
            value = len(descriptor.rx)
        elif name in ("SIOCOUTQ", "TIOCOUTQ", "FIONWRITE"):
            value = descriptor.unacknowledged()
        elif name == "SIOCOUTQNSD":
            value = descriptor.not_sent()
        elif name == "FIONSPACE":
            value = descriptor.send_room()
        else:
            raise Unsupported(f"ioctl({name})")
        if len(args) > 2:
            self.compare(name, args[2], value)
        return 0

    def call_setsockopt(self, args: list[Any], event: CallEvent) -> int:
        return self.runner.options.set(self.socket(args[0]), args, event)

    def call_getsockopt(self, args: list[Any], event: CallEvent) -> int:
        return self.runner.options.get(self.socket(args[0]), args, event, self.compare)

    def _name(self, args: list[Any], actual: tuple[Any, int] | None) -> int:
        if actual is None:
            raise CallFailed("ENOTCONN")
        if args[1] is not ANY:
            self._compare_address(args[1], actual)
        return 0

    def call_getsockname(self, args: list[Any], event: CallEvent) -> int:
        return self._name(args, self.socket(args[0]).local)

    def call_getpeername(self, args: list[Any], event: CallEvent) -> int:
        return self._name(args, self.socket(args[0]).remote)
