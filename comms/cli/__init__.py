"""The command line, `comms`.

`main` is the entry point of the console script and of `python -m comms`; the packages that run
alone (`python -m consumers.sms`) call `run_service`. Commands live in the modules beside this one,
each a thin layer over what it shows.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits the process.

    Args:
        arguments: in place of the process's own.
    """
    # Commands are imported as they are needed: a service does not load what draws tables.
    from comms.cli.app import run  # noqa: PLC0415

    run(arguments)


def run_service(name: str) -> None:
    """Run one service until it is told to stop.

    Args:
        name: one of `comms.services.SERVICES`.
    """
    # All services at once are heavy; commands that run none start without them.
    from comms.services import run_service as run  # noqa: PLC0415

    run(name)
