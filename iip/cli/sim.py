"""`iip sim`: bulk flows through a bottleneck, in virtual time."""
from __future__ import annotations

import importlib.util
import time
from typing import Any

import click

from iip.cli.common import emit, errors, json_option
from iip.cli.units import impairment_options, impairments
from iip.drivers import Impairments
from iip.sim import BulkFlow, Simulation, dumbbell, jain

ACCESS_DELAY = 1e-5               # of the links between hosts and routers, s


@click.command()
@impairment_options
@click.option("--flows", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--congestion", multiple=True, help="Algorithm; several are dealt to the flows in turn. Default: that "
              "of iip.Config.")
@click.option("--seconds", type=click.FloatRange(0.01, 86400), default=10.0, show_default=True,
              help="Of virtual time.")
@click.option("--warm-up", type=click.FloatRange(0, 86400), default=0.0, show_default=True,
              help="Seconds at the start that do not count.")
@click.option("--stagger", type=click.FloatRange(0, 3600), default=0.0, show_default=True,
              help="Seconds between the starts of flows.")
@click.option("--mtu", type=click.IntRange(576, 65535), default=1500, show_default=True, help="Bytes.")
@click.option("--buffer", type=click.IntRange(2048, 1 << 30), help="Send and receive buffers, bytes. Default: ample.")
@click.option("--ipv6", is_flag=True, help="Over IPv6 instead of IPv4.")
@click.option("--pcap", type=click.Path(dir_okay=False), help="Write the bottleneck's packets (pcapng).")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw goodput, window and round-trip time (needs "
              "iip[plot]).")
@json_option
@errors
def sim(flows: int, congestion: tuple[str, ...], seconds: float, warm_up: float, stagger: float, mtu: int,
        buffer: int | None, ipv6: bool, pcap: str | None, plot: str | None, seed: int, as_json: bool,
        **settings: Any) -> None:
    """Bulk flows between pairs of hosts through one bottleneck, simulated. Needs no root and no device.

    `there` is the direction of the data. The same options and seed give the same packets.
    """
    if ipv6 and mtu < 1280:
        raise click.UsageError(f"--mtu {mtu}: IPv6 needs 1280 or more")
    if warm_up >= seconds:
        raise click.UsageError(f"--warm-up {warm_up}: must be shorter than --seconds {seconds}")
    if stagger * (flows - 1) >= seconds:
        raise click.UsageError(f"--stagger {stagger}: the last of {flows} flows would start after --seconds {seconds}")
    if not settings["rate"]:
        settings["rate"] = 100e6
    if plot:
        _need_matplotlib()
    there, back = impairments(**settings)
    window = _window(there, back)
    buffer = buffer or max(1 << 20, 4 * window)
    packets = max(4096, 8 * buffer // mtu)
    begin = time.monotonic()
    cell = max(2048, (mtu + 210) // 64 * 64)
    with Simulation(seed, packets=max(1 << 15, 8 * window // 512), packet_size=cell) as net:
        algorithms: list[dict[str, str]] = [{"congestion": name} for name in congestion] or [{}]
        world = dumbbell(net, 0, bottleneck={**_as_settings(there), "back": _as_settings(back)})
        running: list[BulkFlow] = []
        for i in range(flows):
            both: dict[str, Any] = {"mtu": mtu, "send_buffer": buffer, "receive_buffer": buffer,
                                    "pool_packets": packets, "out_of_order": min(1 << 16, packets),
                                    **algorithms[i % len(algorithms)]}
            left, right = net.host(f"left{i}", **both), net.host(f"right{i}", **both)
            net.link(left, world.bottleneck.a, delay=ACCESS_DELAY)
            net.link(right, world.bottleneck.b, delay=ACCESS_DELAY)
            running.append(BulkFlow(net, left, right, start=i * stagger, version=6 if ipv6 else 4))
        if pcap:
            net.capture(pcap, world.bottleneck)
        net.run(seconds)
        result = _result(running, net, world, warm_up)
        result["wall_seconds"] = time.monotonic() - begin
        if plot:
            _draw(running, plot)
    result["packets_in_use"] = net.packets_in_use
    emit(result, as_json, "simulation", skip=("flows",))
    if not as_json:
        for i, flow in enumerate(result["flows"]):
            click.echo(f"flow {i}: {flow['mbit_per_s']:.3f} Mbit/s, {flow['retransmits']} retransmissions, "
                       f"{flow['congestion']}, mean RTT {flow['mean_rtt_ms'] or 0:.1f} ms")


def _window(there: Impairments, back: Impairments) -> int:
    """Bytes that the bottleneck can hold, on the way and waiting."""
    rtt = there.delay + there.jitter + back.delay + back.jitter + there.reorder_delay + 4 * ACCESS_DELAY
    queued = there.queue if isinstance(there.queue, int) else there.queue.bytes
    return int(there.rate * rtt / 8) + min(queued, 1 << 24)


def _as_settings(direction: Impairments) -> dict[str, Any]:
    return {name: getattr(direction, name) for name in direction.__dataclass_fields__}


def _result(running, net, world, warm_up):
    end = net.now
    each = []
    for flow in running:
        start = max(warm_up, flow.trace["time"][0] if len(flow.trace) else 0.0)
        trace = flow.trace[flow.trace["srtt"] > 0]
        each.append({"mbit_per_s": flow.goodput(start, end) / 1e6, "bytes": flow.received,
                     "retransmits": flow.retransmits, "congestion": flow.src.engine.config.congestion,
                     "mean_rtt_ms": float(trace["srtt"].mean()) * 1e3 if len(trace) else None})
    rates = [flow["mbit_per_s"] for flow in each]
    stats = world.bottleneck.stats()["there"]
    return {"mbit_per_s": sum(rates), "jain": jain(rates), "retransmits": sum(f["retransmits"] for f in each),
            "queue_drops": stats["queue_full"] + stats["codel_dropped"], "lost": stats["lost"],
            "marked": stats["marked"], "seconds": end, "events": net.events, "seed": net.seed, "flows": each}


def _need_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib: pip install 'iip[plot]'")


def _draw(running: list[BulkFlow], path: str) -> None:
    import matplotlib
    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, sharex=True, figsize=(9, 9), layout="constrained")
    for i, flow in enumerate(running):
        rows = flow.trace
        every = max(1, len(rows) // 200)
        coarse = rows[::every]
        label = f"{i} {flow.src.engine.config.congestion}"
        if len(coarse) > 1:
            rate = np.diff(coarse["received"].astype(float)) * 8 / np.diff(coarse["time"]) / 1e6
            axes[0].plot(coarse["time"][1:], rate, label=label)
        axes[1].plot(rows["time"], rows["cwnd"] / 1e3, label=label)
        axes[2].plot(rows["time"], rows["srtt"] * 1e3, label=label)
    for axis, text in zip(axes, ("goodput, Mbit/s", "congestion window, kB", "smoothed round-trip time, ms"),
                          strict=True):
        axis.set_ylabel(text)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", ncols=4)
    axes[2].set_xlabel("seconds")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


