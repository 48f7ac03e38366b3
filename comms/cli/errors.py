"""Errors a command expects, and how one is told: a line on standard error, and an exit code.

`comms.cli.app.run` calls `told` with whatever a command let pass; anything not named here is a bug
and keeps its traceback. Exit codes: 1 it did not work, 2 it was asked wrongly, 3 still open when
the time was over.
"""

from comms.client import ClientError
from comms.platform.database import DatabaseError
from comms.platform.kafka import KafkaFault
from comms.platform.settings import SettingsError
from comms.stack.errors import StackError

FAILED = 1
STILL_OPEN = 3


class CommandError(Exception):
    """What was asked cannot be done; the text is the line to print."""


EXPECTED = (CommandError, ClientError, SettingsError, DatabaseError, KafkaFault, StackError)


def line_of(error: BaseException) -> str:
    """The error as one line."""
    return f"comms: {' '.join(str(error).split())}"
