"""Decides when to try again, and when to stop.

`consumers.pipeline.settlement` asks after an attempt that sent nothing. Waits have full jitter
(anything from zero to a bound that doubles), so that many messages refused together do not return
together.
"""

import random
from datetime import datetime, timedelta

from comms.platform.settings import RetryPolicy
from consumers.sdk.outcomes import TryLater
from schemas.messages import Envelope
from schemas.vocabulary import Reason

_RATE_LIMIT_FACTOR = 20  # a provider's rate limit should cost no attempt, but must end some time


def wait_seconds(
    policy: RetryPolicy, *, attempt: int, after: float | None, source: random.Random
) -> float:
    """Return the seconds until the next attempt.

    Args:
        attempt: the one that was refused, counted from 1.
        after: the seconds that the provider requested (Retry-After), kept as a lower bound.
    """
    bound = min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(attempt - 1, 30))
    jitter = source.uniform(0, bound)
    return jitter if after is None else after + min(jitter, policy.base_seconds)


def is_exhausted(policy: RetryPolicy, *, attempt: int, outcome: TryLater) -> bool:
    """Whether the attempt was the last that the policy allows."""
    limit = policy.attempts
    if outcome.reason is Reason.RATE_LIMITED:
        limit *= _RATE_LIMIT_FACTOR
    return attempt >= limit


def is_too_late(expires_at: datetime | None, *, now: datetime, wait: float) -> bool:
    """Whether the next attempt would come after the message's expiry."""
    return expires_at is not None and now + timedelta(seconds=wait) >= expires_at


def has_ended(policy: RetryPolicy, message: Envelope, *, now: datetime) -> bool:
    """Whether no attempt may begin any more."""
    is_late = is_too_late(message.expires_at, now=now, wait=0)
    return is_late or is_past_deadline(policy, message, now=now)


def is_past_deadline(
    policy: RetryPolicy, message: Envelope, *, now: datetime, wait: float = 0.0
) -> bool:
    """Whether an attempt after `wait` seconds would begin later than the policy allows."""
    if not policy.deadline_seconds:
        return False
    return (now - due_time(message)).total_seconds() + wait > policy.deadline_seconds


def due_time(message: Envelope) -> datetime:
    """Return the earliest time at which the message could have been sent."""
    return max(message.created_at, message.send_at or message.created_at)
