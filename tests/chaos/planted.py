"""Bugs that are planted in the product, to prove that the checker finds them.

`python -m tests.chaos.planted NAME run SERVICE` is `comms run SERVICE` with the bug NAME in it. The
chaos run starts its services this way when it gets `--plant NAME`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from comms.cli.app import run
from comms.platform.kafka import TopicPartition
from consumers.ledger.store import Claim, Ledger, Suppressions
from consumers.pipeline.offsets import OffsetTracker
from producer import queue
from producer.relay_session import RelaySession


def commit_on_fetch() -> None:
    """Commit the offset of a record when it is fetched, not when it is settled."""
    furthest: dict[TopicPartition, int] = {}
    track = OffsetTracker.track

    def record_offset(
        self: OffsetTracker, partition: TopicPartition, offset: int, timestamp: int
    ) -> object:
        furthest[partition] = offset + 1
        return track(self, partition, offset, timestamp)

    OffsetTracker.track = record_offset  # type: ignore[assignment,method-assign]
    OffsetTracker.offsets_to_commit = lambda self: {  # type: ignore[method-assign]
        partition: furthest[partition] for partition in self.partitions() if partition in furthest
    }


def skip_the_claim() -> None:
    """Let every process make every call."""

    async def claim(_: Ledger, claims: Sequence[Claim]) -> dict[UUID, Suppressions]:
        return {request.delivery.message.id: {} for request in claims}

    Ledger.claim = claim  # type: ignore[assignment,method-assign]


def drop_the_sweep() -> None:
    """Treat every published message as claimed, so that none is published again."""
    RelaySession._sweep = lambda _: None  # type: ignore[assignment,method-assign]
    queue.set_log_id = lambda *_: frozenset()


PLANTS: Mapping[str, Callable[[], None]] = {
    "commit-on-fetch": commit_on_fetch,
    "skip-the-claim": skip_the_claim,
    "drop-the-sweep": drop_the_sweep,
}

if __name__ == "__main__":
    PLANTS[sys.argv[1]]()
    run(sys.argv[2:])
