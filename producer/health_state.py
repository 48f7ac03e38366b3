"""The problems that keep the relay from working, for its readiness probe.

The threads of the relay and of the acknowledger write them. The thread of the health server reads
them.
"""

from threading import Lock


class HealthState:
    """The current problem of each part that does not work."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._lock = Lock()

    def set(self, part: str, problem: str) -> None:
        """Record the problem of a part."""
        with self._lock:
            self._problems[part] = problem

    def clear(self, *parts: str) -> None:
        """Record that these parts work."""
        with self._lock:
            for part in parts:
                self._problems.pop(part, None)

    def problems(self) -> list[str]:
        """Return one line for each part that does not work."""
        with self._lock:
            return [f"{part}: {problem}" for part, problem in sorted(self._problems.items())]
