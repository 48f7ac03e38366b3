"""The book of calls: what the simulated provider was really asked to do, and how often.

The server writes every request into it as it takes it, before it answers; whoever checks that
nothing was sent twice compares with `GET /calls/summary`. With a journal file it survives the
process. It holds ids, never recipients.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from consumers.simulator.behaviour import Result
from schemas.vocabulary import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that was taken. `at` is in seconds since the epoch."""

    message_id: str
    channel: Channel
    attempt: int
    result: Result
    provider_message_id: str | None
    at: float


@dataclass(slots=True)
class _Count:
    calls: int = 0
    messages: int = 0
    accepted: int = 0
    duplicates: int = 0

    def add(self, call: Call, earlier: list[Call]) -> None:
        self.calls += 1
        self.messages += not earlier
        if call.result is Result.ACCEPTED:
            self.accepted += 1
            before = sum(one.result is Result.ACCEPTED for one in earlier)
            self.duplicates += before == 1  # counts messages, not repetitions


class CallBook:
    """All calls, by message.

    Args:
        journal: appended to, and read back here.

    Raises:
        OSError: the journal cannot be read or written.
    """

    def __init__(self, journal: Path | None = None) -> None:
        self._calls: dict[str, list[Call]] = {}
        self._total = _Count()
        self._by_channel = {channel: _Count() for channel in Channel}
        self._file: BinaryIO | None = None
        if journal is not None:
            self._read_back(journal)
            journal.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what was written outlives the process.
            self._file = journal.open("ab", buffering=0)

    def record(self, call: Call) -> None:
        """Write a call down."""
        self._count(call)
        if self._file is not None:
            self._file.write(json.dumps(asdict(call)).encode() + b"\n")

    def of_message(self, message_id: str) -> list[Call]:
        """The calls for one message, oldest first."""
        return self._calls.get(message_id, [])

    def summary(self) -> dict[str, object]:
        """Counts: all calls, distinct messages, acceptances, messages accepted more than once."""
        by_channel = {str(name): asdict(count) for name, count in self._by_channel.items()}
        return {**asdict(self._total), "by_channel": by_channel}

    def close(self) -> None:
        """Release the journal."""
        if self._file is not None:
            self._file.close()

    def _count(self, call: Call) -> None:
        calls = self._calls.setdefault(call.message_id, [])
        self._total.add(call, calls)
        self._by_channel[call.channel].add(call, calls)
        calls.append(call)

    def _read_back(self, journal: Path) -> None:
        if not journal.is_file():
            return
        with journal.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else torn by a kill in the middle of writing
                    self._count(_call_from(line))


def _call_from(line: bytes) -> Call:
    data = json.loads(line)
    return Call(**{**data, "channel": Channel(data["channel"]), "result": Result(data["result"])})
