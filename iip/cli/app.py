"""The command group."""
from __future__ import annotations

import click

from iip.cli.bulk import bulk
from iip.cli.figures import figures
from iip.cli.get import get
from iip.cli.http import http_
from iip.cli.load import load
from iip.cli.nc import nc
from iip.cli.ping import ping
from iip.cli.pingpong import pingpong
from iip.cli.proxy import proxy
from iip.cli.script import script
from iip.cli.serve import serve
from iip.cli.sim import sim
from iip.cli.wire import wire


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="iip")
def cli() -> None:
    """A TCP/IP stack in a process: measure it, simulate it, serve with it, fetch with it."""


for command in (pingpong, bulk, figures, load, sim, script, serve, get, ping, nc, proxy, wire):
    cli.add_command(command)
cli.add_command(http_, "http")
