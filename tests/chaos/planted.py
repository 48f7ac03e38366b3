"""Faults put into the product on purpose, to see that the checker finds them.

`python -m tests.chaos.planted NAME run SERVICE` is `comms run SERVICE` with the fault NAME in it;
the chaos run starts its services so when it is given `--plant NAME`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from comms.cli.app import run
from comms.platform.kafka import TopicPartition
from consumers.ledger.store import Claim, Ledger
from consumers.pipeline.offsets import OffsetTracker
from producer import queue
from producer.relay_session import RelaySession


def commit_on_fetch() -> None:
    """What was read counts as done."""
    furthest: dict[TopicPartition, int] = {}
    fetched = OffsetTracker.fetched

    def noting(self: OffsetTracker, place: TopicPartition, offset: int, timestamp: int) -> object:
        furthest[place] = offset + 1
        return fetched(self, place, offset, timestamp)

    OffsetTracker.fetched = noting  # type: ignore[assignment,method-assign]
    OffsetTracker.to_commit = lambda self: {  # type: ignore[method-assign]
        place: furthest[place] for place in self.places() if place in furthest
    }


def skip_the_claim() -> None:
    """Every process may make every call."""

    async def claim(_: Ledger, claims: Sequence[Claim]) -> dict[UUID, str | None]:
        return {resend_request.delivery.message.id: None for resend_request in claims}

    Ledger.claim = claim  # type: ignore[assignment,method-assign]


def drop_the_sweep() -> None:
    """What was published counts as claimed."""
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
