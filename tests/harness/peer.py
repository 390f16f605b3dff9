"""A peer that says exactly what the test says, and checks exactly what comes back."""
from __future__ import annotations

import pytest

from tests.harness import packets as p
from tests.harness.packets import ACK, FIN, M32, PSH, RST, SYN, flag_names


class Peer:
    """The other end of one connection. It keeps count of sequence numbers and does nothing by itself.

    nxt: the next sequence number to send; rcv: the next one expected from the engine. `ts`: timestamps in
    every segment (their clock ticks in ms). Options of its SYN: `options`.
    """

    def __init__(self, wire, port=40000, local_port=80, iss=1_000_000, ts=False, address=None, local=None):
        self.wire = wire
        self.port, self.local_port = port, local_port
        self.local, self.remote = local or wire.local, address or wire.remote
        self.iss = iss
        self.nxt = iss
        self.rcv = 0
        self.wnd = 65535
        self.ts = ts
        self.ts_clock = 5000          # added to the virtual time in ms
        self.ts_echo = 0

    # -- out --------------------------------------------------------------------------------------------------

    def ts_now(self):
        return (self.wire.now // 1_000_000 + self.ts_clock) & M32

    def packet(self, flags, *, seq=None, ack=None, wnd=None, data=b"", options=b"", urg=0, tsval=None, tsecr=None,
               ts=None, **wrong):
        """An IP packet; what is left out is as a correct peer would have it."""
        if ack is None:
            ack = self.rcv if flags & ACK else 0
        if self.ts if ts is None else ts:
            options += p.opt_timestamps(self.ts_now() if tsval is None else tsval,
                                        (self.ts_echo if flags & ACK else 0) if tsecr is None else tsecr)
        if seq is None:
            seq = self.nxt
            self.nxt = (seq + len(data) + bool(flags & SYN) + bool(flags & FIN)) & M32
        segment = p.tcp(self.remote, self.local, self.port, self.local_port, seq, ack, flags,
                        self.wnd if wnd is None else wnd, options=options, data=data, urg=urg, **wrong)
        return p.ip(self.remote, self.local, p.TCP, segment)

    def send(self, flags, **fields):
        """Send a segment and let the engine run. Without `seq` it is the next in order."""
        self.wire.feed(self.packet(flags, **fields))

    def icmp(self, kind, code, parameter=0, *, quote, reporter=None, cut=None):
        """An ICMP error that quotes a segment of the engine's."""
        raw = quote.raw if cut is None else quote.raw[:cut]
        self.wire.feed(p.icmp_error(reporter or self.remote, self.local, kind, code, parameter, raw))

    # -- in ---------------------------------------------------------------------------------------------------

    def expect(self, flags, *, seq=None, ack=None, wnd=None, data=b"", after=None, size=None, options=None):
        """The next segment from the engine, which must be exactly this (PSH aside, if it is not asked for).

        seq: by default the next in order; ack: everything sent so far; data: the payload, or `size` bytes of any;
        after: seconds until it leaves (else it must have left already).
        """
        wire = self.wire
        if after is None:
            assert wire.sent, f"expected {flag_names(flags)}, nothing left"
        else:
            assert not wire.sent, f"too early: {wire.sent[0]}"
            assert wire.advance_to_output() == pytest.approx(after, abs=0.0021)
        s = wire.sent.popleft()
        assert (s.sport, s.dport) == (self.local_port, self.port), str(s)
        assert (str(s.source), str(s.destination)) == (self.local, self.remote), str(s)
        mask = 0x1FF if flags & PSH else 0x1FF & ~PSH
        assert flag_names(s.flags & mask) == flag_names(flags), str(s)
        if s.flags & SYN and not s.flags & RST and seq is None:
            self.rcv = s.seq
        if seq is None and not s.flags & RST:
            seq = self.rcv
        if seq is not None:
            assert s.seq == seq & M32, f"{s}, expected seq={seq & M32}"
        if ack is None and s.flags & ACK:
            ack = self.nxt
        assert s.ack == (ack or 0) & M32, f"{s}, expected ack={ack or 0}"
        if wnd is not None:
            assert s.wnd == wnd, f"{s}, expected wnd={wnd}"
        if size is not None:
            assert len(s.data) == size, f"{s}, expected {size} bytes"
        else:
            assert s.data == data, f"{s}, expected {data[:40]!r}"
        if options is not None:
            assert s.options == options, f"{s}, expected {options}"
        if s.options.timestamps:
            self.ts_echo = s.options.timestamps[0]
        if s.seq == self.rcv:
            self.rcv = (self.rcv + s.space) & M32
        return s

    def expect_nothing(self, seconds=0.0):
        """Nothing left, nor does it within `seconds`."""
        if seconds:
            self.wire.advance(seconds)
        assert not self.wire.sent, f"unexpected: {[str(s) for s in self.wire.sent]}"

    # -- shorthands -------------------------------------------------------------------------------------------

    @property
    def conn(self):
        """The engine's side, as its application has it."""
        return self.wire.handler.conns[self.port]

    def syn(self, options=b"", **fields):
        self.send(SYN, options=options, **fields)

    def connect(self, options=b"", rtt=0.0, **fields):
        """Passive open: the three-way handshake, which takes `rtt` seconds. Returns the SYN-ACK."""
        self.wire.engine.tcp_listen(self.local_port)
        self.syn(options, **fields)
        answer = self.expect(SYN | ACK)
        self.ts = answer.options.timestamps is not None
        self.wire.advance(rtt)
        self.send(ACK)
        self.expect_nothing()
        return answer

    def called(self):
        """Active open: the engine connects to us; its SYN."""
        conn = self.wire.engine.tcp_connect(self.remote, self.port, source_port=self.local_port)
        self.wire.handler.conns[self.port] = conn
        self.wire.run()
        return self.expect(SYN, ack=0)

    def answer(self, options=b"", **fields):
        """SYN-ACK to `called`; its ACK."""
        self.send(SYN | ACK, options=options, **fields)
        return self.expect(ACK)

    def write(self, data):
        """The engine's application sends."""
        taken = self.conn.send(data)
        assert taken == len(data)
        self.wire.run()

    def do(self, call):
        """The application calls a method of the connection."""
        getattr(self.conn, call)()
        self.wire.run()
