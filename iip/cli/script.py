"""`iip script`: play packet scripts against the stack."""
from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from iip.script.play import FAILED, PASSED, UNSUPPORTED, Result, find_scripts, play_many
from iip.script.report import junit
from iip.script.settings import VERSIONS


def _pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """--set name=value as the language's own options."""
    found = []
    for text in values:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise click.BadParameter(f"{text!r}: write name=value, like tolerance_usecs=10000")
        found.append((name.lstrip("-"), value))
    return found


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR ...",
                type=click.Path(exists=True, path_type=Path))
@click.option("-j", "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Scripts at the same time.")
@click.option("--ip-version", "versions", multiple=True, type=click.Choice(VERSIONS),
              help="Run over this version, whatever the script says; repeat to run each script several times.")
@click.option("--personality", type=click.Choice(["auto", "linux", "freebsd"]), default="auto", show_default=True,
              help="Whose conventions and names count. auto: by the names that a script uses.")
@click.option("--set", "settings", multiple=True, callback=_pairs, metavar="NAME=VALUE",
              help="An option of the language, like tolerance_usecs=10000; wins over the script's own.")
@click.option("-D", "--define", "defines", multiple=True, metavar="NAME=VALUE", help="A name that scripts may use.")
@click.option("--unsupported-fails", is_flag=True, help="Exit with 1 also when a script needs what the stack lacks.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of every random choice of the stack.")
@click.option("-v", "--verbose", is_flag=True, help="A line for every script, and what blocks of Python print.")
@click.option("-q", "--quiet", is_flag=True, help="Only the summary.")
@click.option("--junit", "junit_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write results as JUnit XML.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def script(paths: tuple[Path, ...], jobs: int, versions: tuple[str, ...], personality: str,
           settings: list[tuple[str, str]], defines: tuple[str, ...], unsupported_fails: bool, seed: int, verbose: bool,
           quiet: bool, junit_file: Path | None, as_json: bool) -> None:
    """Play packet scripts (the packetdrill language) against the stack, in virtual time.

    Needs no root and no device. Of a directory, every *.pkt below it is played. Exit status: 0 all passed or were
    unsupported, 1 one failed, 2 wrong usage.
    """
    files = find_scripts(list(paths))
    if not files:
        raise click.UsageError("no script found: name a file, or a directory that holds *.pkt")
    options = [*settings, *(("define", text) for text in defines)]
    work: list[tuple[Path, dict[str, Any]]] = [
        (path, {"personality": personality, "version": version, "options": options, "seed": seed})
        for path in files for version in versions or (None,)]
    results = play_many(work, jobs)
    if junit_file:
        junit_file.write_text(junit(results), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({**_counts(results), "scripts": [asdict(r) for r in results]}))
    else:
        _print(results, verbose, quiet)
    bad = {FAILED, UNSUPPORTED} if unsupported_fails else {FAILED}
    if any(r.outcome in bad for r in results):
        raise SystemExit(1)


def _counts(results: list[Result]) -> dict[str, int]:
    return {name: sum(r.outcome == name for r in results) for name in (PASSED, FAILED, UNSUPPORTED)}


def _print(results: list[Result], verbose: bool, quiet: bool) -> None:
    for result in results if not quiet else ():
        if result.outcome != PASSED:
            click.echo(result.report() if result.outcome == FAILED else result.report().split("\n")[0])
        elif verbose:
            click.echo(f"{result.path} [IPv{result.version}]: passed ({result.virtual_seconds:.3f} s of virtual time)")
        if verbose:
            for row in result.output:
                click.echo(f"    {row}")
    click.echo(", ".join(f"{n} {name}" for name, n in _counts(results).items()))
