"""Waiting, within a bound, for what other threads and processes do: the one deadline poll."""

import threading
import time
from collections.abc import Callable


def wait_for(true: Callable[[], bool], *, seconds: float = 20.0, what: str = "so") -> None:
    """Look until it is true; fail when the time is over, naming `what` never came."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"not {what} within {seconds} s"
        pause.wait(0.02)
