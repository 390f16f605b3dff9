"""From text to events: what the language says and how it is understood."""
import pytest

from iip.script.errors import ScriptSyntaxError, Unsupported
from iip.script.parser import parse
from iip.script.syntax import ANY, CallEvent, CodeEvent, Option, ShellEvent, Struct, Time


def one(text):
    events = parse(text).events
    assert len(events) == 1
    return events[0]


def body(text):
    return one(text).body


@pytest.mark.parametrize("text, time", [
    ("0 ", Time(0)), ("1.5 ", Time(1_500_000)), ("+.1 ", Time(100_000, relative=True)), ("* ", Time(any_time=True)),
    (".1~.2 ", Time(100_000, 200_000)), ("+.1~+.25 ", Time(100_000, 250_000, True)), ("", Time(relative=True)),
    ("0.1...0.2 ", Time(100_000, until=200_000)), ("+0...0.2 ", Time(0, relative=True, until=200_000)),
])
def test_times(text, time):
    assert one(f"{text}close(3) = 0").time == time


def test_tcp_packet():
    p = body("+0 < [ect0] SEW 1:11(10) ack 5 win 1000 urg 3 <mss 1460,nop,wscale 7,sackOK,TS val 1 ecr 2>")
    assert p.direction == "<" and p.ip.ecn == "ect0"
    t = p.body
    assert (t.flags, t.seq, t.length, t.ack, t.window, t.urgent) == (0xC2, 1, 10, 5, 1000, 3)
    assert t.options == (Option("mss", 1460), Option("nop"), Option("wscale", 7), Option("sackOK"), Option("TS", (1, 2)))
    assert not t.any_options


def test_what_is_left_out_is_not_compared():
    t = body("+0 > . 1:1(0) ack 1 <...>").body
    assert t.window is None and t.any_options and not t.options
    assert body("+0 > . 1:1(0) ack 1 win *").body.window is None
    assert body("+0 > S 0:0(0) <TS val * ecr 0>").body.options[0].value[0] is ANY


@pytest.mark.parametrize("text, option", [
    ("sack 1001:2001 3001:4001", Option("sack", ((1001, 2001), (3001, 4001)))), ("FO a1b2", Option("FO", b"\xa1\xb2")),
    ("FO", Option("FO", b"")), ("FOEXP 0011", Option("FOEXP", b"\0\x11")), ("eol", Option("eol")),
    ("md5 00112233445566778899aabbccddeeff", Option("md5", bytes.fromhex("00112233445566778899aabbccddeeff"))),
])
def test_options(text, option):
    assert body(f"+0 < . 1:1(0) ack 1 win 1 <{text}>").body.options == (option,)


def test_udp_and_icmp():
    assert body("+0 < udp (100)").body.length == 100
    p = body("+0 < icmp unreachable frag_needed mtu 1200 [1:1461(1460)]").body
    assert (p.type, p.code, p.mtu, p.quoted) == ("unreachable", "frag_needed", 1200, ("tcp", 1, 1460))


def test_calls():
    call = body('+0 connect(3, {sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("1.2.3.4")}, 16) '
                "= -1 EINPROGRESS (Operation now in progress)")
    assert isinstance(call, CallEvent) and call.name == "connect" and call.errno == "EINPROGRESS"
    assert isinstance(call.arguments[1], Struct)
    assert body("+0 accept(3, ..., ...) = 4").arguments[1] is ANY


def test_the_sign_of_the_next_event_is_no_operator():
    events = parse("+0 accept(3, ..., ...) = 4\n+0 write(4, ..., 10) = 10\n* > P. 1:11(10) ack 1\n").events
    assert [e.body.result for e in events[:2]] == [4, 10] and events[2].time.any_time


def test_blocks_commands_and_comments():
    script = parse("// one\n--mtu=1280\n/* two\n */ `sysctl -q net.ipv4.tcp_sack=0`\n"
                   "0 `echo 1`  # three\n+0 %{ print('x') }%\n")
    assert script.options == [("mtu", "1280", 2)] and script.init == [("sysctl -q net.ipv4.tcp_sack=0", 4)]
    assert isinstance(script.events[0].body, ShellEvent) and isinstance(script.events[1].body, CodeEvent)
    assert script.events[1].line == 6


@pytest.mark.parametrize("text", [
    "+0 > . 1:5(10) ack 1", "+0 > Q 1:1(0)", "+0 close(3", "+0 `true", "nonsense", "+0 > . 1:1(0) ack 1 <mss>",
])
def test_what_is_wrong_is_said_with_its_line(text):
    with pytest.raises(ScriptSyntaxError) as caught:
        parse("\n\n" + text)
    assert caught.value.line == 3


@pytest.mark.parametrize("text, lacks", [
    ("+0 < mpls (label 1, tc 0, [S], ttl 64): . 1:1(0) ack 1 win 1", "mpls"),
    ("+0 < gre: ipv4 1.1.1.1 > 2.2.2.2: . 1:1(0)", "gre"), ("+0 > S 0:0(0) <mp_capable>", "mp_capable"),
    ("+0 < sctp: INIT[]", "sctp"),
])
def test_what_is_lacking_is_named(text, lacks):
    with pytest.raises(Unsupported) as caught:
        parse(text)
    assert lacks in caught.value.lacks and caught.value.line == 1
