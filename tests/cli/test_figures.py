"""`iip figures`: a few points instead of all."""
import csv

import pytest
from click.testing import CliRunner

from iip.cli import figures
from iip.cli.app import cli

pytest.importorskip("matplotlib")


def test_points_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "CONNECTIONS", (1,))
    monkeypatch.setattr(figures, "LOADS", (0.2,))
    monkeypatch.setattr(figures, "WRITES", (1000,))
    monkeypatch.setattr(figures, "MODELS", dict(list(figures.MODELS.items())[-1:]))
    done = CliRunner().invoke(cli, ["figures", "--output", str(tmp_path), "--seconds", "0.02"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["figure"], r["series"]) for r in rows] == (
        [("1a", name) for name in figures.PINGPONG]
        + [("1b", name) for name in figures.PINGPONG]
        + [("1c", name) for name in figures.MODELS]
        + [("2", name) for name in figures.BULK])
    assert all(float(r["x"]) > 0 and float(r["y"]) > 0 for r in rows)
    for name in ("figure1", "figure2"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text()


def test_a_measurement_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "PINGPONG", {"wrong": ("--no-such-option",)})
    done = CliRunner().invoke(cli, ["figures", "--output", str(tmp_path)])
    assert done.exit_code == 1 and "--no-such-option" in done.output
