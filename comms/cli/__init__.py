"""The command line, `comms`.

`main` is the entry point of the console script and of `python -m comms`; the packages that run
alone (`python -m consumers.sms`) call `run_service`
or `run_channel`. Commands live in the modules beside this one,
each a thin layer over what it shows.
"""

import sys
from collections.abc import Sequence

from comms.services import SERVICES, run_service

__all__ = ["main", "run_channel", "run_service"]


def run_channel(name: str) -> None:
    """Run a channel's service or, where the command line says `receipts`, its receipt endpoint;
    exits the process.

    Args:
        name: the channel's.
    """
    match sys.argv[1:]:
        case []:
            run_service(name)
        case ["receipts"]:
            run_service(f"{name} receipts")
        case _:
            sys.exit(f"python -m consumers.{name}: takes nothing, or the word receipts")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits the process.

    Args:
        arguments: in place of the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case ["run", name] if name in SERVICES:  # a service does not load what draws tables
            run_service(name)
        case _:
            from comms.cli.app import run  # noqa: PLC0415 - see above

            run(given)
