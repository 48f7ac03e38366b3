"""The life of a message: which status may follow which, and which of two facts wins.

    pending ──► sending ──► sent ──► delivered
       │           │          └────► failed
       │           ├──► failed ┄┄┄► delivered   (a late receipt still wins)
       │           ├──► unknown ──► sent | failed | delivered
       │           └──► cancelled               (nothing was sent)
       └──► cancelled | failed

    unknown, sent, failed, delivered ┄┄► sending, a new chapter    (a person asked for it)

The audit merge orders events by `place_of`, so that any order of arrival ends in the same row.
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
            {
                *(Status.SENDING, Status.SENT, Status.FAILED, Status.UNKNOWN, Status.DELIVERED),
                Status.CANCELLED,
            }
        ),
        Status.UNKNOWN: frozenset({Status.SENT, Status.FAILED, Status.DELIVERED}),
        Status.SENT: frozenset({Status.DELIVERED, Status.FAILED}),
        Status.FAILED: frozenset({Status.DELIVERED}),
        Status.CANCELLED: frozenset[Status](),
        Status.DELIVERED: frozenset[Status](),
    }
)


# From here a person may ask for another attempt.
RESENDABLE = frozenset({Status.UNKNOWN, Status.SENT, Status.FAILED, Status.DELIVERED})


def place_of(status: Status, *, chapter: int) -> tuple[bool, int, int]:
    """Of two facts the one with the higher place wins.

    Args:
        chapter: the attempt of the newest resend that is not later than the fact's own attempt; 0
            for what belongs to no resend. A person who was reached stays reached, whatever a later
            attempt came to; otherwise a later chapter says more than an earlier one.
    """
    return status is Status.DELIVERED, chapter, RANK[status]


def is_forward(current: Status, offered: Status) -> bool:
    """Whether a message at `current` moves when an event of the same chapter says `offered`.

    Anything else is a late or repeated word: kept in the history, changing nothing.
    """
    return offered is not current and RANK[offered] > RANK[current]
