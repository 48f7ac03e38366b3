"""The provider seam: one async method wide.

The runner calls `send` once for every attempt it has claimed. An adapter turns one message into one
request of one provider, and the answer into an `Outcome`; it does not retry, choose, wait for rate
limits or record anything, because the runner does all of that for every provider alike.
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
    """Which attempt of a message a call belongs to, counted from 1.

    Args:
        known_as: the attempt with which its chapter began: a person who asks for another attempt
            wants another call, and a provider must not take it for a repetition.
        left_out: those of the message's several recipients who must not be reached.
    """

    message_id: UUID
    number: int
    idempotency_attempt: int = 1
    suppressed_recipients: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def idempotency_key(self) -> str:
        """For providers that take one: the same for every repetition that nobody asked for."""
        chapter = () if self.idempotency_attempt == 1 else (self.idempotency_attempt,)
        return str(event_id(self.message_id, "provider-call", *chapter))


class Provider(Protocol, Generic[M_contra]):
    """A configured way out of a channel."""

    @property
    def name(self) -> str:
        """The name it has in settings, metrics and events."""

    async def open(self) -> None:
        """Prepare connections; called once, on the loop that will call `send`."""

    async def send(self, message: M_contra, attempt: Attempt) -> Outcome:
        """Make one call.

        Runs alongside many others on one event loop and must not block it. Returns within the
        adapter's own time limit, whatever the provider does. Raises nothing but CancelledError.
        """

    async def probe(self) -> str | None:
        """Ask whether the provider can be reached, without sending: None, or what is wrong."""

    async def close(self) -> None:
        """Release connections; calls in flight have ended."""
