"""All commands of `comms`, put together; `comms.cli.main` runs them."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from comms.cli import run_service

cli = typer.Typer(name="comms", no_args_is_help=True, add_completion=False)


@cli.callback()
def _root() -> None:
    """SMS, e-mail, push and voice messages through one reliable layer."""


@cli.command("run")
def run_one(name: Annotated[str, typer.Argument(help="The service.")]) -> None:
    """Run one service, as deployed."""
    run_service(name)


def run(arguments: Sequence[str] | None = None) -> None:
    """Parse and run."""
    cli(list(sys.argv[1:] if arguments is None else arguments))
