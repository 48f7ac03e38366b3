"""The command line, `comms`.

`main` is the entry point of the console script and of `python -m comms`. Packages that run alone,
such as `python -m consumers.sms`, call `run_service` or `run_channel`. The commands are in the
modules of this package; `comms.cli.app` puts them together.
"""

import sys
from collections.abc import Sequence

from comms.services import SERVICES, run_service

__all__ = ["main", "run_channel", "run_service"]


def run_channel(name: str) -> None:
    """Run a channel's service, or its webhook endpoint if the argument is `receipts`; then exit.

    Args:
        name: the channel.
    """
    match sys.argv[1:]:
        case []:
            run_service(name)
        case ["receipts"]:
            run_service(f"{name} receipts")
        case _:
            sys.exit(f"python -m consumers.{name}: the only argument it accepts is 'receipts'")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit the process.

    Args:
        arguments: the command and its arguments; None for those of the process.
    """
    command = list(sys.argv[1:] if arguments is None else arguments)
    match command:
        case ["run", name] if name in SERVICES:  # a service need not load the modules of the CLI
            run_service(name)
        case _:
            from comms.cli.app import run  # noqa: PLC0415 - see above

            run(command)
