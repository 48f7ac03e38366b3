"""What stands in for a provider whose secret is not set, so that the others of its channel work.

`consumers.registry` puts it in place; the router never chooses it, the reporter says what is
missing, and the receipt endpoint asks for its receipts to be sent again.
`consumers.pipeline.selection` puts it where a message has no provider at all.
"""

from collections.abc import Mapping, Sequence

from consumers.sdk.outcomes import AccountError, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.receipts import NotSetUpError, ReceiptEvent
from schemas.events import ProviderResponse
from schemas.messages import Message

_WHY = "the provider is not set up"


class UnconfiguredProvider:
    """A way out that is not there yet."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        """There is nothing to open."""

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        del message, attempt
        return AccountError(response=ProviderResponse(detail=_WHY))

    async def probe(self) -> str | None:
        return _WHY

    async def close(self) -> None:
        """There is nothing to close."""

    def __repr__(self) -> str:
        return f"UnconfiguredProvider({self._name})"


class UnconfiguredReceipts:
    """Cannot tell a provider's receipts from forged ones: nothing is recorded, nothing refused."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        raise NotSetUpError(self._problem)
