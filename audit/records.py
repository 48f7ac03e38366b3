"""The answers of the audit service: frozen values with the field names of the HTTP API.

`audit.queries` makes them, `audit.api` serialises them as they are, and the page shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from schemas.vocabulary import Channel, Mode, Priority, Reason, Status


class Readiness(StrEnum):
    """Whether messages get out by a channel or a provider; `live` once one did."""

    LIVE = "live"
    SIMULATED = "simulated"
    PROBED = "probed"
    CONFIGURED = "configured"
    SETUP_NEEDED = "setup_needed"
    DEGRADED = "degraded"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """One status event of a message, with the provider's answer."""

    id: UUID
    status: Status
    reason: Reason
    attempt: int
    provider: str | None
    provider_message_id: str | None
    code: str | None
    detail: str | None
    response: str | None
    occurred_at: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Message:
    """A message with its current status."""

    id: UUID
    tenant: str
    channel: Channel
    to: str | None
    status: Status
    reason: Reason
    provider: str | None
    provider_message_id: str | None
    attempts: int
    customer_id: str | None
    workflow: str | None
    priority: Priority | None
    created_at: datetime
    updated_at: datetime
    send_at: datetime | None
    expires_at: datetime | None
    sent_at: datetime | None
    finished_at: datetime | None
    metadata: Mapping[str, str]
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MessageHistory(Message):
    """A message with all its events, oldest first."""

    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage:
    """Messages, newest first; `next_cursor` leads to older ones."""

    items: tuple[Message, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds from when a message could be sent until a provider accepted it."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many messages are in a group; `latency_ms` is of those that were sent."""

    group: Mapping[str, str]
    count: int
    latency_ms: Latency | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """The last error of a provider, in its own words."""

    at: datetime
    message_id: UUID
    reason: Reason
    code: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """A provider of a channel; `counts` are the last day's messages by status.

    Args:
        evidence: a sentence that says how its readiness is known.
        probed_at: when it last answered a probe, which sends nothing.
        for_tests: it gets no live messages.
        unknown_codes: error codes of its answers that are in no table, and how often they came.
    """

    name: str
    kind: str
    readiness: Readiness
    problem: str | None
    evidence: str | None
    weight: int
    for_tests: bool
    probed_at: datetime | None
    last_success: datetime | None
    last_error: LastError | None
    unknown_codes: Mapping[str, int]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelState:
    """A channel: whether it is ready, why not, and how far behind it is."""

    channel: Channel
    readiness: Readiness
    problem: str | None
    consumers: int
    in_flight: int
    lag_messages: int
    lag_seconds: float
    last_success: datetime | None
    last_error: LastError | None
    counts: Mapping[str, int]
    providers: tuple[ProviderState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Messages in the outbox (`more` if not all were counted), and those waiting for send_at."""

    pending: int
    more: bool
    oldest: datetime | None
    scheduled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An event as followers of `/v1/events` get it; `cursor` is the point to resume from."""

    cursor: str
    tenant: str
    id: UUID
    message_id: UUID
    channel: Channel
    status: Status
    reason: Reason
    attempt: int
    provider: str | None
    occurred_at: datetime
    recorded_at: datetime
