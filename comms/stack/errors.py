"""What can go wrong while the one-machine stack is set up, each with a sentence for a person.

    StackError              one line for the terminal, non-zero exit
    ├── EngineError         an embedded engine could not be prepared, started or reached
    ├── AlreadyRunningError another stack holds the data folder
    └── PortTakenError      something else listens on a port we were asked to use

Raised by every module of `comms.stack`, printed by the command line, never retried.
"""


class StackError(Exception):
    """The stack cannot go on; the text says why and what to do about it."""


class EngineError(StackError):
    """An embedded engine could not be prepared, started or reached."""


class AlreadyRunningError(StackError):
    """Another stack runs on this data folder."""


class PortTakenError(StackError):
    """Something else listens on a port the stack was asked to use."""
