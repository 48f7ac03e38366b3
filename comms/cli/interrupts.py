"""Ctrl-C during a long command: finish the request in progress, then stop.

`comms send --file` uses it, so that the counts it prints are true: a request that is cut off may
have been accepted all the same.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_after_request() -> Iterator[threading.Event]:
    """Set the event at the first Ctrl-C; the second one interrupts as usual."""
    stop = threading.Event()

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    former = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, former)
