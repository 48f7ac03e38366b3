"""The error with which a service stops itself, because continuing would do harm.

Services raise it; `comms run` prints its text and exits with 1.
"""


class ServiceError(Exception):
    """A service must stop; the text says why, in one line."""
