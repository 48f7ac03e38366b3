"""Waits, up to a deadline, for what other threads and processes do. Tests poll nowhere else."""

import threading
import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], bool], *, seconds: float = 20.0, what: str = "the condition"
) -> None:
    """Poll until `condition` is true. Fail after `seconds`, naming `what` was waited for."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        pause.wait(0.02)
