"""The life of a message: which status may follow which, and which of two facts wins.

    pending ──► sending ──► sent ──► delivered
       │           │          └────► failed
       │           ├──► failed ┄┄┄► delivered   (a late receipt still wins)
       │           └──► unknown ──► sent | failed | delivered
       └──► cancelled | failed

Consumers ask `FINAL` before they act; the audit merge orders events by `RANK`, so that any order of
arrival ends in the same row.
"""

from types import MappingProxyType

from schemas.vocabulary import Status

RANK = MappingProxyType(
    {
        Status.PENDING: 10,
        Status.SENDING: 20,
        Status.UNKNOWN: 30,
        Status.SENT: 40,
        Status.CANCELLED: 50,
        Status.FAILED: 60,
        Status.DELIVERED: 70,
    }
)

FINAL = frozenset({Status.DELIVERED, Status.FAILED, Status.CANCELLED})

TRANSITIONS = MappingProxyType(
    {
        Status.PENDING: frozenset({Status.SENDING, Status.FAILED, Status.CANCELLED}),
        Status.SENDING: frozenset(
            {Status.SENDING, Status.SENT, Status.FAILED, Status.UNKNOWN, Status.DELIVERED}
        ),
        Status.UNKNOWN: frozenset({Status.SENT, Status.FAILED, Status.DELIVERED}),
        Status.SENT: frozenset({Status.DELIVERED, Status.FAILED}),
        Status.FAILED: frozenset({Status.DELIVERED}),
        Status.CANCELLED: frozenset[Status](),
        Status.DELIVERED: frozenset[Status](),
    }
)


def is_forward(current: Status, offered: Status) -> bool:
    """Whether a message at `current` moves when an event says `offered`.

    Anything else is a late or repeated word: kept in the history, changing nothing.
    """
    return offered is not current and RANK[offered] > RANK[current]
