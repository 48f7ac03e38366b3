"""Placeholders for a provider that is not set up, so that the others of its channel work.

`consumers.registry` puts them in place for a wrong option or a missing secret. The router never
chooses the provider, the reporter shows the problem, and the receipt endpoint asks for the receipts
to be sent again. `consumers.pipeline.selection` uses the provider for a message that has none.
"""

from collections.abc import Mapping, Sequence

from consumers.sdk.outcomes import AccountError, Outcome
from consumers.sdk.provider import Attempt
from consumers.sdk.receipts import NotSetUpError, ReceiptEvent
from schemas.events import ProviderResponse
from schemas.messages import Message

_WHY = "the provider is not set up"


class UnconfiguredProvider:
    """Takes the place of an adapter that could not be built."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        """Do nothing."""

    async def send(self, message: Message, attempt: Attempt) -> Outcome:
        del message, attempt
        return AccountError(response=ProviderResponse(detail=_WHY))

    async def probe(self) -> str | None:
        return _WHY

    async def close(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return f"UnconfiguredProvider({self._name})"


class UnconfiguredReceipts:
    """Cannot tell genuine receipts from forged ones: it records nothing and refuses nothing."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def parse(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[ReceiptEvent]:
        raise NotSetUpError(self._problem)
