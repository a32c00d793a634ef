"""lshctl fleet."""

import click

from lsh_systemd.cli import fleet_queue


@click.group("fleet")
def fleet_command() -> None:
    """Look at all hosts together, and share work among them."""


fleet_queue.register(fleet_command)
