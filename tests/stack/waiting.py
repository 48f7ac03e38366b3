"""Waiting, within a bound, for what other processes do."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(true: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Poll until it is true; fail when the time is over."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
