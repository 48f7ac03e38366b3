"""The error with which a service stops itself, because going on would do harm."""


class ServiceError(Exception):
    """The sentence says why, in one line; `comms run` prints it and exits with 1."""
