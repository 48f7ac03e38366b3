"""The errors of the one-machine stack, each with a sentence for the person at the terminal.

    StackError              one line on the terminal, non-zero exit code
    ├── EngineError         an embedded engine could not be prepared, started or reached
    ├── AlreadyRunningError another stack uses the data folder
    └── PortTakenError      another program listens on a port that the stack needs

Every module of `comms.stack` raises them. The command line prints them. They are never retried.
"""


class StackError(Exception):
    """The stack cannot continue; the text says why and what to do."""


class EngineError(StackError):
    """An embedded engine could not be prepared, started or reached."""


class AlreadyRunningError(StackError):
    """Another stack uses this data folder."""


class PortTakenError(StackError):
    """Another program listens on a port that the stack needs."""
