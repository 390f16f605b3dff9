"""Scripts against the stack: what passes, what fails and how that is told."""
import pytest

from iip.script.play import FAILED, PASSED, UNSUPPORTED, play_text

SERVER = """
0   socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0  bind(3, ..., ...) = 0
+0  listen(3, 1) = 0
+0  < S 0:0(0) win 32792 <mss 1000,nop,wscale 7>
+0  > S. 0:0(0) ack 1 <...>
+.1 < . 1:1(0) ack 1 win 257
+0  accept(3, ..., ...) = 4
"""


def play(text, **arguments):
    return play_text(text, "x.pkt", **arguments)


def passes(text, **arguments):
    result = play(text, **arguments)
    assert result.outcome == PASSED, result.report()
    return result


def fails(text, *words, **arguments):
    result = play(text, **arguments)
    assert result.outcome == FAILED, result.report()
    for word in words:
        assert word in result.report()
    return result


@pytest.mark.parametrize("version", ["4", "6", "4-mapped"])
def test_every_version(version):
    passes(SERVER + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1\n", version=version)


def test_absolute_and_relative_times():
    passes(SERVER + ".2 < P. 1:11(10) ack 1 win 257\n+.01 read(4, ..., 100) = 10\n.21 close(4) = 0\n")


def test_a_packet_at_the_wrong_time():
    fails(SERVER + "+0 write(4, ..., 10) = 10\n+.1 > P. 1:11(10) ack 1\n", "x.pkt:10", "time: expected 0.200000", "got 0.1")


def test_tolerance():
    late = SERVER + "+0 write(4, ..., 10) = 10\n+.006 > P. 1:11(10) ack 1\n"
    fails(late, "time")
    passes("--tolerance_usecs=10000\n" + late)
    passes(late, options=[("tolerance_usecs", "10000")])


def test_any_time_and_ranges():
    passes(SERVER + "+0 < P. 1:11(10) ack 1 win 257\n*  > . 1:1(0) ack 11\n")
    passes(SERVER + "+0 < P. 1:11(10) ack 1 win 257\n+0~+.05  > . 1:1(0) ack 11\n")


@pytest.mark.parametrize("line, word", [
    ("> . 1:11(10) ack 1", "flags"), ("> P. 2:12(10) ack 1", "sequence number"), ("> P. 1:11(10) ack 2", "acknowledgement"),
    ("> P. 1:10(9) ack 1", "payload length"), ("> P. 1:11(10) ack 1 <nop,nop>", "options"),
    ("> P. 1:11(10) ack 1 win 3", "window"), ("> [ce] P. 1:11(10) ack 1", "ECN"), ("> udp (10)", "UDP"),
])
def test_every_field_is_compared(line, word):
    fails(SERVER + f"+0 write(4, ..., 10) = 10\n+0 {line}\n", word, "the last packets", "> P. 1:11(10) ack 1")


def test_no_packet():
    fails(SERVER + "+0 > . 1:1(0) ack 1\n", "no packet left")


def test_another_result():
    fails(SERVER + "+0 write(4, ..., 10) = 11\n", "write()", "expected: 11", "actual:   10")
    fails(SERVER + "+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n+0 read(4, ..., 10) = 10\n", "EAGAIN")
    fails(SERVER + "+0 close(9) = 0\n", "EBADF")


def test_a_call_that_does_not_return():
    fails(SERVER + "+0 read(4, ..., 10) = 10\n", "does not return")


def test_blocking_calls():
    passes(SERVER + ".1...0.3 read(4, ..., 10) = 10\n.3 < P. 1:11(10) ack 1 win 257\n* > . 1:1(0) ack 11\n")
    fails(SERVER + ".1...0.2 read(4, ..., 10) = 10\n.3 < P. 1:11(10) ack 1 win 257\n", "returned at another time")


def test_blocks_of_python():
    result = passes(SERVER + "+0 %{ assert tcpi_snd_mss == 1000; print(tcpi_state == TCP_ESTABLISHED) }%\n")
    assert result.output == ["True"]
    result = fails(SERVER + "+0 %{\nassert tcpi_snd_cwnd == 77, 'no'\n}%\n", "does not hold: no", "tcpi_snd_cwnd = 10")
    assert result.line == 10
    assert play(SERVER + "+0 %{ assert tcpi_nonsense }%\n").outcome == UNSUPPORTED


@pytest.mark.parametrize("line, lacks", [
    ("+0 mmap(NULL, 10) = 0", "mmap"), ("+0 setsockopt(4, SOL_SOCKET, SO_TXTIME, [1], 4) = 0", "SO_TXTIME"),
    ("+0 `reboot`", "reboot"), ("+0 `sysctl -q net.ipv4.tcp_nonsense=1`", "tcp_nonsense"),
    ("+0 socket(AF_UNIX, SOCK_STREAM, 0) = 5", "family"), ("+0 < . 1:1(0) ack 1 win 9 <mp_join>", "mp_join"),
    ("+0 write(4, ..., NO_SUCH_NAME) = 5", "NO_SUCH_NAME"),
])
def test_what_is_lacking_is_named(line, lacks):
    result = play(SERVER + line + "\n")
    assert result.outcome == UNSUPPORTED and lacks in result.lacks and result.line == 9


def test_settings_from_commands():
    text = "`sysctl -q net.ipv4.tcp_timestamps=0 net.ipv4.tcp_sack=0`\n`echo 0 > /proc/sys/net/ipv4/tcp_window_scaling`\n"
    passes(text + """0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, IPPROTO_TCP) = 3
+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
+0 > S 0:0(0) <mss 1460>
""")


def test_buffer_sizes_choose_the_window_scale():
    passes("`sysctl -q net.ipv4.tcp_rmem=\"4096 540000 $((15*1024*1024))\"`\n" + SERVER.replace(
        "<mss 1000,nop,wscale 7>", "<mss 1000,sackOK,nop,nop,nop,wscale 7>").replace(
        "<...>", "<mss 1460,nop,nop,sackOK,nop,wscale 8>"))


def test_timestamps_are_the_scripts():
    passes("""0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 32792 <mss 1000,sackOK,TS val 500 ecr 0>
+0 > S. 0:0(0) ack 1 <mss 1460,sackOK,TS val 77 ecr 500>
+.1 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 600 ecr 77>
+0 accept(3, ..., ...) = 4
+0 write(4, ..., 10) = 10
+0 > P. 1:11(10) ack 1 <nop,nop,TS val 177 ecr 600>
+.1 < . 1:1(0) ack 11 win 257 <nop,nop,TS val 700 ecr 177>
+0 %{ assert 95000 <= tcpi_rtt <= 105000, tcpi_rtt }%
""")


def test_segments_sent_together_are_one_packet_of_many():
    passes(SERVER + "+0 write(4, ..., 5000) = 5000\n+0 > P. 1:5001(5000) ack 1\n")
    passes(SERVER + "+0 write(4, ..., 5000) = 5000\n+0 > . 1:3001(3000) ack 1\n+0 > P. 3001:5001(2000) ack 1\n")


def test_the_same_seed_gives_the_same_run():
    text = SERVER + "+0 write(4, ..., 10) = 11\n"
    assert play(text).packets == play(text).packets


def test_udp_and_icmp():
    passes("""0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3
+0 bind(3, ..., ...) = 0
+0 connect(3, ..., ...) = 0
+0 write(3, ..., 100) = 100
+0 > udp (100)
+.1 < udp (50)
+0 read(3, ..., 1000) = 50
+0 < icmp unreachable port_unreachable [udp (100)]
+0 read(3, ..., 1000) = -1 ECONNREFUSED (Connection refused)
""")
