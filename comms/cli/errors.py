"""The errors a command expects: each is printed as one line, and ends it with an exit code.

`comms.cli.app.run` prints the errors of `EXPECTED`. Any other exception is a bug and keeps its
traceback. Exit codes: 1 the command failed, 2 its arguments are wrong, 3 the message was not final
when the time was over, 130 it was interrupted.
"""

from comms.client import ApiUnreachableError, ClientError
from comms.platform.database import DatabaseError
from comms.platform.kafka import KafkaFault
from comms.platform.settings import SettingsError
from comms.stack.errors import StackError

FAILED = 1
STILL_OPEN = 3
INTERRUPTED = 130


class CommandError(Exception):
    """The command cannot do what was requested; the text is the line to print."""


EXPECTED = (CommandError, ClientError, SettingsError, DatabaseError, KafkaFault, StackError)


def to_line(error: BaseException) -> str:
    """Return the error as one line, with what to do where the error alone does not say it."""
    line = f"comms: {' '.join(str(error).split())}"
    if isinstance(error, ApiUnreachableError):
        return f"{line}; start the system with `comms up`, or set COMMS_URL to its address"
    return line
