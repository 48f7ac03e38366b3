"""What keeps the relay from its work, as its readiness probe is told.

The relay's thread and the acknowledger's write; the health server's reads.
"""

from threading import Lock


class HealthState:
    """Problems by the part that has them."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._lock = Lock()

    def set(self, part: str, problem: str) -> None:
        """`part` does not work, and why."""
        with self._lock:
            self._problems[part] = problem

    def clear(self, *parts: str) -> None:
        """These parts work."""
        with self._lock:
            for part in parts:
                self._problems.pop(part, None)

    def problems(self) -> list[str]:
        """A line for each part that does not work."""
        with self._lock:
            return [f"{part}: {problem}" for part, problem in sorted(self._problems.items())]
