"""Commands between backticks. None is run: those that set something are understood, others are reported."""
from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from iip.script.errors import ScriptError, Unsupported
from iip.script.expressions import expression
from iip.script.scanner import Scanner
from iip.script.sysctl import set_sysctl
from iip.script.values import Values

if TYPE_CHECKING:
    from iip.script.runner import Runner

_NOISE = re.compile(r"\s*(?:\d?>>?\s*&?\S+|&>\s*\S+)\s*(?=$|[\s])")
# commands that change nothing that a script can see here
_HARMLESS = frozenset({
    "true", ":", "date", "set", "modprobe", "kldload", "kldunload", "sync", "iptables", "export", "hash", "umask",
    "tcpdump", "exit", "dmesg", "logger", "ulimit", "ethtool", "wait", "ls", "test", "["})
_RESTORE = re.compile(r"/tmp/sysctl_restore\S*")
# what the usual test beds' defaults are
_DEFAULTS = {
    "net.ipv4.tcp_rmem": "4096 540000 15728640", "net.ipv4.tcp_wmem": "4096 262144 4194304",
    "net.ipv4.tcp_congestion_control": "cubic", "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.ipv4.tcp_ecn": "0", "net.ipv4.tcp_fastopen": "3", "net.ipv4.tcp_early_retrans": "4", "net.ipv4.tcp_recovery": "1"}


def run_shell(runner: Runner, text: str, line: int) -> None:
    for command in _commands(text):
        try:
            _run(runner, command)
        except ScriptError as error:
            error.line = error.line or line
            raise


def _commands(text: str) -> list[str]:
    """Single commands: lines joined by backslashes, split at `;`, `&&`, `||` and line ends; comments dropped."""
    text = re.sub(r"\\\n", " ", text)
    found: list[str] = []
    for row in text.split("\n"):
        found += re.split(r";|&&|\|\|", re.sub(r"(?:^|\s)#.*", "", row))
    return [command.strip() for command in found if command.strip()]


def _expand(text: str) -> str:
    """`$((15*1024*1024))`."""
    def value(match: re.Match[str]) -> str:
        if not re.fullmatch(r"[\d\s*+\-/()<>x]+", match[1]):
            raise Unsupported(f"the expression $(({match[1]}))")
        return str(Values({})(expression(Scanner(match[1]))))
    return re.sub(r"\$\(\((.*?)\)\)", value, text)


def _run(runner: Runner, command: str) -> None:
    command = _expand(command)
    if found := re.fullmatch(r"echo\s+(?:-n\s+)?(.*?)\s*>\s*/proc/sys/(\S+)", command):
        set_sysctl(runner, found[2].replace("/", "."), found[1].strip("\"'"))
        return
    if _RESTORE.search(command):
        return
    bare = _NOISE.sub(" ", command).strip()
    try:
        words = shlex.split(bare)
    except ValueError:
        raise Unsupported(f"the command {command!r}") from None
    while words and (words[0] in ("sudo", "exec", "time", "env") or re.fullmatch(r"[A-Z_]+=\S*", words[0])):
        words.pop(0)
    if words and words[0] in ("if", "then", "fi", "else", "for", "do", "done", "while", "case", "esac"):
        raise Unsupported(f"the shell's {words[0]}")
    if not words:
        return
    _word(runner, words, command)


def _word(runner: Runner, words: list[str], command: str) -> None:
    name = words[0].rsplit("/", 1)[-1]
    if name in ("source", "."):
        words = words[1:]
        name = words[0].rsplit("/", 1)[-1] if words else ""
    if name in ("sh", "bash", "python", "python2", "python3") and len(words) > 1:
        words = words[1:]
        name = words[0].rsplit("/", 1)[-1]
    if name == "sysctl":
        _sysctl(runner, words[1:], command)
    elif name in ("set_sysctls.py", "set_sysctls.sh", "set_sysctls"):
        _assignments(runner, words[1:])
    elif name == "defaults.sh":
        for key, value in _DEFAULTS.items():
            set_sysctl(runner, key, value)
        runner.settings.ignored.append(name)
    elif name in ("ip", "ip6", "route"):
        _ip(runner, words, command)
    elif name in ("sleep", "usleep") and len(words) == 2 and re.fullmatch(r"[\d.]+", words[1]):
        runner.sleep(round(float(words[1]) * (1_000_000 if name == "sleep" else 1)))
    elif _harmless(name, command):
        runner.settings.ignored.append(command)
    elif "=" in command and name.endswith((".sh", ".py")):
        _assignments(runner, words[1:])
    else:
        raise Unsupported(f"the command {command!r}")


def _harmless(name: str, command: str) -> bool:
    if name in ("tc", "ifconfig"):
        return not re.search(r"netem|loss|delay", command)
    return name in _HARMLESS or (name == "echo" and ">" not in command)


def _sysctl(runner: Runner, words: list[str], command: str) -> None:
    """`sysctl -q -w name=value`, `name value`, `name = value`."""
    words = [word for word in words if not word.startswith("-")]
    if not words:
        return
    if len(words) >= 3 and words[1] == "=":
        set_sysctl(runner, words[0], " ".join(words[2:]))
    elif all("=" not in word for word in words):
        return                    # shows values
    else:
        _assignments(runner, words)


def _assignments(runner: Runner, words: list[str]) -> None:
    for word in words:
        name, sign, value = word.partition("=")
        if word.startswith("-"):
            continue
        if not sign:
            raise Unsupported(f"the word {word!r} of a command that sets values")
        name = re.sub(r"^/?proc/sys/", "", name.lstrip("/")).replace("/", ".")
        set_sysctl(runner, name, value.strip("\"'"))




def _ip(runner: Runner, words: list[str], command: str) -> None:
    """`ip tcp_metrics flush` and the metrics of `ip route change`."""
    rest = [word for word in words[1:] if word not in ("-4", "-6")]
    if rest[:1] == ["tcp_metrics"] or rest[:1] == ["link"] or rest[:1] == ["addr"] or rest[:1] == ["netns"]:
        runner.settings.ignored.append(command)
        return
    if rest[:1] != ["route"] or len(rest) < 2 or rest[1] not in ("change", "replace", "add", "show", "flush", "append"):
        raise Unsupported(f"the command {command!r}")
    for i, word in enumerate(rest):
        if word in ("rto_min", "initcwnd", "advmss"):
            _route_metric(runner, word, rest[i + 1] if rest[i + 1] != "lock" else rest[i + 2])
        elif word in ("initrwnd", "quickack", "features", "cwnd", "ssthresh", "congctl", "window", "mtu", "reordering",
                      "fastopen_no_cookie", "rtt", "rttvar", "blackhole", "unreachable", "prohibit"):
            raise Unsupported(f"the route metric {word}")


def _route_metric(runner: Runner, name: str, text: str) -> None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|us)?", text)
    if not found:
        raise Unsupported(f"the route metric {name} {text}")
    if name == "rto_min":
        unit = {"s": 1.0, "us": 1e-6}.get(found[2], 0.001)
        runner.reconfigure(rto_min=max(0.001, float(found[1]) * unit))
    else:
        runner.reconfigure(**{"initial_window" if name == "initcwnd" else "mss": int(found[1])})
