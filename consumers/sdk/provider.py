"""The provider interface: one asynchronous method that sends.

The pipeline calls `send` once for every attempt that it has claimed. An adapter turns one message
into one request of one provider, and the answer into an `Outcome`. It does not retry, choose, wait
for rate limits or record anything, because the pipeline does that for every provider alike.
"""

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from consumers.sdk.outcomes import Outcome
from schemas.ids import event_id
from schemas.messages import Message

M_contra = TypeVar("M_contra", bound=Message, contravariant=True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt that a call belongs to.

    Args:
        message_id: of the message.
        number: of the attempt, counted from 1.
        idempotency_attempt: the attempt with which the current send cycle began. A person who
            requests another send wants another call, and the provider must not take it for a
            repetition.
        suppressed_recipients: those of the message's several recipients who must not be reached.
    """

    message_id: UUID
    number: int
    idempotency_attempt: int = 1
    suppressed_recipients: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def idempotency_key(self) -> str:
        """The key for providers that accept one: the same for every attempt of a send cycle."""
        cycle = () if self.idempotency_attempt == 1 else (self.idempotency_attempt,)
        return str(event_id(self.message_id, "provider-call", *cycle))


class Provider(Protocol, Generic[M_contra]):
    """A configured provider of a channel."""

    @property
    def name(self) -> str:
        """The name in settings, metrics and events."""

    async def open(self) -> None:
        """Prepare connections. Called once, on the loop that will call `send`."""

    async def send(self, message: M_contra, attempt: Attempt) -> Outcome:
        """Make one call.

        Runs alongside many others on one event loop and must not block it. Returns within the
        adapter's own time limit, whatever the provider does. Raises nothing but CancelledError.
        """

    async def probe(self) -> str | None:
        """Check without sending whether the provider can be used. Returns None, or the problem."""

    async def close(self) -> None:
        """Release connections. Calls in flight have ended."""
