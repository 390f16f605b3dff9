"""Names of Linux's and FreeBSD's settings, and what each is here.

`SETTINGS` maps a name to a function of the runner and the value's text. A value that asks for something the stack does not
do raises Unsupported; a setting of a mechanism that the stack does without, and that no script can see, is noted."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from iip.script.errors import Unsupported

if TYPE_CHECKING:
    from iip.script.runner import Runner

Setter = Callable[["Runner", str], None]

# names that scripts use: the engine's
CONGESTION = {"reno": "newreno", "newreno": "newreno"}


def _integer(text: str) -> int:
    return int(text.split()[0], 0)


def _index(text: str) -> int:
    value = _integer(text)
    if value < 0:
        raise ValueError(text)
    return value


def number(setting: str, unit: float = 1, *, whole: bool = False, low: float | None = None) -> Setter:
    """A number, in `unit`s of the engine's setting."""
    def apply(runner: Runner, text: str) -> None:
        value: Any = _integer(text) * unit
        if low is not None:
            value = max(value, low)
        runner.reconfigure(**{setting: int(value) if whole else float(value)})
    return apply


def flag(*settings: str) -> Setter:
    def apply(runner: Runner, text: str) -> None:
        runner.reconfigure(**{name: _integer(text) != 0 for name in settings})
    return apply


def only(*values: int) -> Setter:
    """The stack behaves as one of these says; another value asks for what it lacks."""
    def apply(runner: Runner, text: str) -> None:
        if _integer(text) not in values:
            raise Unsupported(f"the value {text}; here it is always {' or '.join(map(str, values))}")
    return apply


def unseen(runner: Runner, text: str) -> None:
    """Of a mechanism that no script can see here."""


def _congestion(runner: Runner, text: str) -> None:
    runner.reconfigure(congestion=runner.congestion(text))


def _triple(runner: Runner, name: str, text: str) -> tuple[int, int, int]:
    parts = [int(word, 0) for word in text.split()]
    if len(parts) != 3:
        raise Unsupported(f"{name} of {len(parts)} values")
    return parts[0], parts[1], parts[2]


def _rmem(runner: Runner, text: str) -> None:
    runner.settings.rmem = _triple(runner, "tcp_rmem", text)
    runner.buffers_changed()


def _wmem(runner: Runner, text: str) -> None:
    runner.settings.wmem = _triple(runner, "tcp_wmem", text)
    runner.buffers_changed()


def _adv_win_scale(runner: Runner, text: str) -> None:
    runner.settings.adv_win_scale = _integer(text)
    runner.buffers_changed()


def _recvspace(runner: Runner, text: str) -> None:
    _, _, most = runner.settings.rmem
    runner.settings.rmem = (4096, _integer(text), most)
    runner.buffers_changed()


def _sendspace(runner: Runner, text: str) -> None:
    _, _, most = runner.settings.wmem
    runner.settings.wmem = (4096, _integer(text), most)
    runner.buffers_changed()


def _maxsockbuf(runner: Runner, text: str) -> None:
    low, usual, _ = runner.settings.rmem
    runner.settings.rmem = (low, usual, _integer(text))
    runner.buffers_changed()


def _slow_start_after_idle(runner: Runner, text: str) -> None:
    runner.reconfigure(idle_restart=_integer(text) != 0)


def _syncookies(runner: Runner, text: str) -> None:
    value = _integer(text)
    if not 0 <= value <= 2:
        raise ValueError(text)
    runner.reconfigure(syn_cookies=("off", "auto", "always")[value])


def _fastopen(runner: Runner, text: str) -> None:
    runner.settings.tfo = _integer(text)


def _tfo_bit(bit: int) -> Setter:
    def apply(runner: Runner, text: str) -> None:
        runner.settings.tfo = runner.settings.tfo & ~bit | (bit if _integer(text) else 0)
    return apply


def _mtu_probing(runner: Runner, text: str) -> None:
    runner.reconfigure(mtu_probing=("off", "blackhole", "always")[_integer(text)])


def _lowat(runner: Runner, text: str) -> None:
    value = _integer(text)
    runner.reconfigure(unsent_low=0 if value >= 1 << 30 else value)


def _ecn(runner: Runner, text: str) -> None:
    """More than 2 is accurate ECN, by Linux's numbers."""
    runner.reconfigure(ecn=("off", "on", "passive", "accurate", "accurate-on", "accurate-passive")[_index(text)])


def _bsd_ecn(runner: Runner, text: str) -> None:
    """By FreeBSD's numbers; it sends no counters of bytes."""
    runner.reconfigure(ecn=("off", "on", "passive", "accurate", "accurate-passive")[_index(text)], ecn_option="off")


def _ecn_option(runner: Runner, text: str) -> None:
    """2 falls back when the option seems to get lost, 3 never does."""
    runner.reconfigure(ecn_option=("off", "needed", "always", "always")[_index(text)])


def _delayed_ack(runner: Runner, text: str) -> None:
    runner.reconfigure(delayed_ack=0.04 if _integer(text) else 0.0)


def _linux() -> dict[str, Setter]:
    tcp: dict[str, Setter] = {
        "timestamps": flag("timestamps"), "sack": flag("sack"), "window_scaling": flag("window_scale"),
        "congestion_control": _congestion, "rmem": _rmem, "wmem": _wmem, "adv_win_scale": _adv_win_scale,
        "syn_retries": number("syn_retries", whole=True), "synack_retries": number("synack_retries", whole=True),
        "retries2": number("retries", whole=True), "retries1": unseen, "orphan_retries": unseen,
        "keepalive_time": number("keepalive"), "keepalive_intvl": number("keepalive_interval"),
        "keepalive_probes": number("keepalive_probes", whole=True), "fin_timeout": number("fin_wait2"),
        "slow_start_after_idle": _slow_start_after_idle,
        "rto_max_ms": number("rto_max", 0.001), "rto_min_us": number("rto_min", 1e-6),
        "syn_linear_timeouts": only(0), "recovery": only(1), "early_retrans": only(3, 4), "frto": only(1, 2),
        "dsack": flag("dsack"), "fack": unseen, "ecn": _ecn,
        "ecn_option": _ecn_option, "ecn_option_beacon": unseen, "ecn_fallback": unseen, "reordering": only(3),
        "max_reordering": unseen, "abc": unseen, "low_latency": unseen, "mtu_probing": _mtu_probing,
        "base_mss": number("mtu_probing_base", whole=True),
        "mtu_probe_floor": unseen, "probe_interval": number("mtu_probing_interval"), "probe_threshold": unseen,
        "syncookies": _syncookies, "fastopen": _fastopen, "fastopen_key": unseen,
        "fastopen_blackhole_timeout_sec": unseen, "notsent_lowat": _lowat, "thin_linear_timeouts": only(0),
        "thin_dupack": only(0), "limit_output_bytes": unseen, "tso_win_divisor": unseen, "min_tso_segs": unseen,
        "tso_rtt_log": unseen, "autocorking": unseen, "moderate_rcvbuf": flag("autotune"), "no_metrics_save": unseen,
        "no_ssthresh_metrics_save": unseen, "pacing_ss_ratio": unseen, "pacing_ca_ratio": unseen, "mem": unseen,
        "invalid_ratelimit": unseen, "challenge_ack_limit": unseen, "abort_on_overflow": only(0),
        "rfc1337": unseen, "tw_reuse": unseen, "tw_reuse_delay": unseen, "tw_recycle": only(0), "max_tw_buckets": unseen,
        "max_syn_backlog": number("max_half_open", whole=True, low=1), "max_orphans": unseen, "app_win": unseen,
        "workaround_signed_windows": only(0), "shrink_window": only(0), "comp_sack_delay_ns": only(0),
        "comp_sack_nr": unseen, "comp_sack_slack_ns": unseen, "min_rtt_wlen": unseen, "min_snd_mss": unseen,
        "available_congestion_control": unseen, "allowed_congestion_control": unseen, "early_demux": unseen,
        "fwmark_accept": unseen, "l3mdev_accept": unseen, "migrate_req": unseen, "reflect_tos": only(0), "stdurg": only(0),
        "backlog_ack_defer": unseen, "plb_enabled": only(0), "pingpong_thresh": unseen, "delack_seg": unseen,
        "use_userconfig": unseen, "collapse_max_bytes": unseen, "child_ehash_entries": unseen, "retrans_collapse": unseen,
        "initcwnd": number("initial_window", whole=True), "init_cwnd": number("initial_window", whole=True),
        "rcvbuf_low_rtt": unseen,
    }
    found = {f"net.ipv4.tcp_{name}": setter for name, setter in tcp.items()}
    found.update({
        "net.ipv4.ip_no_pmtu_disc": only(0), "net.ipv4.ip_default_ttl": number("ttl", whole=True),
        "net.ipv4.route.flush": unseen, "net.ipv4.route.min_pmtu": unseen, "net.ipv4.route.mtu_expires": unseen,
        "net.ipv6.route.flush": unseen, "net.ipv4.ip_local_port_range": _port_range, "net.ipv4.ip_early_demux": unseen,
        "net.ipv4.icmp_ratelimit": unseen, "net.ipv4.icmp_ratemask": unseen, "net.ipv4.icmp_msgs_per_sec": unseen,
        "net.ipv4.udp_mem": unseen, "net.ipv4.ip_forward": unseen,
        "net.ipv6.auto_flowlabels": unseen, "net.ipv6.flowlabel_reflect": only(0),
        "net.ipv6.flowlabel_state_ranges": unseen, "net.ipv6.flowlabel_consistency": unseen,
    })
    return found


def _port_range(runner: Runner, text: str) -> None:
    low, high = (int(word) for word in text.split())
    runner.reconfigure(ports=(low, high))


def _freebsd() -> dict[str, Setter]:
    tcp: dict[str, Setter] = {
        "rfc1323": flag("window_scale", "timestamps"), "sack.enable": flag("sack"), "sack.revised": only(0, 1),
        "sack.tso": unseen, "sack.lrd": unseen, "sack.maxholes": unseen, "sack.globalmaxholes": unseen,
        "delayed_ack": _delayed_ack, "delacktime": number("delayed_ack", 0.001), "recvspace": _recvspace,
        "sendspace": _sendspace, "recvbuf_auto": unseen, "sendbuf_auto": unseen, "recvbuf_max": unseen,
        "sendbuf_max": unseen, "recvbuf_inc": unseen, "sendbuf_inc": unseen, "sendbuf_auto_lowat": unseen,
        "rexmit_min": number("rto_min", 0.001, low=0.001), "rexmit_initial": number("rto_initial", 0.001),
        "rexmit_slop": unseen, "initcwnd_segments": number("initial_window", whole=True, low=1), "cc.algorithm": _congestion,
        "cc.abe": unseen, "keepidle": number("keepalive", 0.001), "keepintvl": number("keepalive_interval", 0.001),
        "keepcnt": number("keepalive_probes", whole=True), "keepinit": unseen, "always_keepalive": unseen,
        "msl": number("time_wait", 0.002), "finwait2_timeout": number("fin_wait2", 0.001), "maxtcptw": unseen,
        "nolocaltimewait": unseen, "fast_finwait2_recycle": unseen, "mssdflt": only(536), "v6mssdflt": only(1220),
        "minmss": unseen, "path_mtu_discovery": only(1), "pmtud_blackhole_detection": only(0), "rfc3042": only(1),
        "rfc3390": unseen, "rfc3465": only(1), "abc_l_var": unseen, "rfc6675_pipe": only(1), "newcwv": only(0), "tso": unseen,
        "do_prr": only(1), "do_prr_conservative": unseen, "do_lrd": unseen, "hostcache.enable": unseen,
        "hostcache.purgenow": unseen, "hostcache.purge": unseen, "hostcache.expire": unseen, "hostcache.prune": unseen,
        "ecn.enable": _bsd_ecn, "ecn.maxretries": unseen, "syncookies": _syncookies, "syncookies_only": only(0),
        "syncache.rexmtlimit": number("synack_retries", whole=True), "syncache.see_other": unseen,
        "syncache.rst_on_sock_fail": only(1), "syncache.hashsize": unseen, "syncache.bucketlimit": unseen,
        "syncache.cachelimit": unseen, "fastopen.server_enable": _tfo_bit(2), "fastopen.client_enable": _tfo_bit(1),
        "functions_default": _functions, "drop_synfin": only(0, 1), "blackhole": only(0), "insecure_rst": only(0),
        "insecure_syn": only(0), "insecure_ack": only(0), "log_in_vain": unseen, "log_debug": unseen,
        "icmp_may_rst": only(1), "reass.maxqueuelen": unseen, "reass.maxsegments": unseen, "reass.new_limit": unseen,
        "ts_offset_per_conn": unseen, "tolerate_missing_ts": only(0), "isn_reseed_interval": unseen,
        "persmin": unseen, "persmax": unseen, "maxunacktime": unseen, "per_cpu_timers": unseen, "ack_war_timewindow": unseen,
        "ack_war_cnt": unseen, "udp_tunneling_port": only(0), "retries": number("retries", whole=True),
        "rexmit_drop_options": only(0), "soreceive_stream": unseen, "bb.pcb_ids_cur": unseen,
        "experimental.initcwnd10": unseen, "disable_tcp_hpts": unseen,
    }
    found = {f"net.inet.tcp.{name}": setter for name, setter in tcp.items()}
    found.update({"kern.ipc.maxsockbuf": _maxsockbuf, "net.inet.ip.ttl": number("ttl", whole=True),
                  "net.inet.icmp.icmplim": unseen, "net.inet.udp.blackhole": only(0), "net.inet.ip.portrange.randomized": unseen})
    return found


def _functions(runner: Runner, text: str) -> None:
    if text != "freebsd":
        raise Unsupported(f"the TCP stack {text}")


SETTINGS: dict[str, Setter] = {**_linux(), **_freebsd()}
_UNSEEN_PREFIXES = ("net.core.", "vm.", "net.netfilter.", "debug.", "security.", "kern.", "net.mptcp.pm")
_PER_DEVICE = ("net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh.")


def set_sysctl(runner: Runner, name: str, value: str) -> None:
    """One assignment. Raises Unsupported, naming it, for what has no counterpart."""
    name = name.replace("/", ".")
    setter = SETTINGS.get(name)
    if setter is None:
        if name.startswith(_UNSEEN_PREFIXES + _PER_DEVICE):
            runner.settings.ignored.append(name)
            return
        raise Unsupported(f"the setting {name}")
    if setter is unseen:
        runner.settings.ignored.append(name)
    try:
        setter(runner, value)
    except Unsupported as error:
        raise Unsupported(f"{name}={value}: {error.lacks}") from None
    except (ValueError, IndexError):
        raise Unsupported(f"{name}={value}: no value of it that is known") from None
