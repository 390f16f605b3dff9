"""`iip sim`: what it prints, draws and refuses; and the numbers people may write."""
import json

import click
import pytest
from click.testing import CliRunner

from iip.cli.app import cli
from iip.cli.units import QUEUE, RATE, SHARE, TIME, impairments


def run(*arguments, code=0):
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done


def result(*arguments):
    return json.loads(run("sim", *arguments, "--json").stdout)


def test_one_flow():
    found = result("--rate", "20M", "--delay", "10ms", "--seconds", 5, "--warm-up", 1)
    assert 19 < found["mbit_per_s"] < 20 and found["jain"] == 1 and found["packets_in_use"] == 0
    assert found["seconds"] == 5 and found["lost"] == 0
    assert found["flows"][0]["bytes"] > 10_000_000


def test_many_flows_share():
    found = result("--rate", "20M", "--delay", "5ms", "--flows", 3, "--stagger", 0.1, "--seconds", 10, "--ipv6")
    assert len(found["flows"]) == 3 and 0.5 < found["jain"] < 1
    assert found["mbit_per_s"] == pytest.approx(sum(f["mbit_per_s"] for f in found["flows"]))


def test_a_seed_repeats_the_run(tmp_path):
    options = ("--rate", "10M", "--delay", "5ms", "--loss", "1%", "--reorder", "1%", "--duplicate", "1%",
               "--seconds", 2)
    files = [tmp_path / name for name in ("a", "b", "c")]
    found = [result(*options, "--seed", seed, "--pcap", file) for seed, file in zip((5, 5, 6), files, strict=True)]
    for one in found:
        del one["wall_seconds"]
    assert found[0] == found[1] != found[2]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_codel_and_marks():
    plain = result("--rate", "10M", "--delay", "5ms", "--seconds", 10, "--queue", "10bdp")
    codel = result("--rate", "10M", "--delay", "5ms", "--seconds", 10, "--queue", "10bdp", "--codel")
    assert codel["flows"][0]["mean_rtt_ms"] < plain["flows"][0]["mean_rtt_ms"] / 2
    assert codel["queue_drops"] > 0 and codel["mbit_per_s"] > 8


def test_tables_for_people():
    shown = run("sim", "--seconds", 0.5, "--flows", 2).stdout
    assert "mbit per s" in shown and "flow 1:" in shown


@pytest.mark.parametrize("arguments, words", [
    (("--loss", "150%"), "loss"), (("--rate", "fast"), "100M"), (("--delay", "10m"), "10ms"),
    (("--queue", "some"), "bdp"), (("--warm-up", 20), "--warm-up"), (("--stagger", 20, "--flows", 3), "--stagger"),
    (("--ipv6", "--mtu", 1000), "1280"), (("--congestion", "nosuch"), "nosuch"),
])
def test_wrong_options_are_explained(arguments, words):
    assert words in run("sim", *arguments, code=2).output


def test_plot(tmp_path):
    import importlib.util
    path = tmp_path / "plot.png"
    if importlib.util.find_spec("matplotlib") is None:
        assert "iip[plot]" in run("sim", "--seconds", 0.1, "--plot", path, code=2).output
    else:
        run("sim", "--seconds", 0.5, "--plot", path)
        assert path.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind, text, value", [
    (RATE, "100M", 100e6), (RATE, "64k", 64e3), (RATE, "2.5Gbit/s", 2.5e9), (RATE, "1000", 1000.0),
    (TIME, "10ms", 0.01),
    (TIME, "250us", 250e-6), (TIME, "1.5", 1.5), (TIME, "2s", 2.0), (SHARE, "1%", 0.01), (SHARE, "0.5", 0.5),
    (QUEUE, "64k", (64e3, "bytes")), (QUEUE, "100p", (100.0, "p")), (QUEUE, "0.1bdp", (0.1, "bdp")),
])
def test_numbers_as_people_write_them(kind, text, value):
    assert kind.convert(text, None, None) == pytest.approx(value) if isinstance(value, float) else \
        kind.convert(text, None, None) == value


def test_numbers_that_mean_nothing():
    for kind, text in ((RATE, "-1"), (TIME, "1h"), (SHARE, "x"), (QUEUE, "1rtt")):
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)


def test_options_become_impairments():
    common = {"rate": 8e6, "delay": 0.05, "jitter": 0.0, "codel": False, "ecn": False, "reorder": 0.0,
              "reorder_delay": 0.001, "duplicate": 0.0, "corrupt": 0.0}
    there, back = impairments(**common, queue=(0.5, "bdp"), loss=0.01, where="there")
    assert (there.loss, back.loss) == (0.01, 0.0) and there.queue.bytes == back.queue.bytes == 50_000
    _, back = impairments(**common, queue=(7.0, "p"), loss=0.01, where="back")
    assert back.loss == 0.01 and back.queue.packets == 7
