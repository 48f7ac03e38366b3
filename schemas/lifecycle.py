"""The lifecycle of a message: the transitions of its status, and which of two events wins.

    pending ──► sending ──► sent ──► delivered
       │           │          └────► failed
       │           ├──► failed ┄┄┄► delivered   (a late receipt still wins)
       │           ├──► unknown ──► sent | failed | delivered
       │           └──► cancelled               (nothing was sent)
       └──► cancelled | failed

    unknown, sent, failed, delivered ┄┄► sending, a new send cycle   (an operator resent it)

The merge of the audit service orders events by `precedence`. Therefore events that arrive in any
order give the same result.
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


# A message with one of these statuses can be resent.
RESENDABLE = frozenset({Status.UNKNOWN, Status.SENT, Status.FAILED, Status.DELIVERED})


def precedence(status: Status, *, cycle_start: int) -> tuple[bool, int, int]:
    """Return the sort key of an event: of two events, the one with the higher key wins.

    A delivered message stays delivered, whatever a later attempt ends in. Otherwise a later send
    cycle wins over an earlier one.

    Args:
        status: the status that the event reports.
        cycle_start: the attempt of the newest resend that is not later than the attempt of the
            event; 0 before any resend.
    """
    return status is Status.DELIVERED, cycle_start, RANK[status]


def is_forward(current: Status, offered: Status) -> bool:
    """Whether an event of the same send cycle with status `offered` changes a message at `current`.

    Any other event is late or repeated: it is kept in the history and changes nothing.
    """
    return offered is not current and RANK[offered] > RANK[current]
