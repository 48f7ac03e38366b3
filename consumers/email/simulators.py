"""Tests by providers that have no test mode but addresses: what is sent to these is answered, and
reported on, as the address says, and reaches nobody.

Their adapters ask before they write a request.
"""

from collections.abc import Callable

from consumers.sdk.outcomes import Outcome, Refused
from schemas.events import ProviderResponse
from schemas.messages import EmailMessage
from schemas.vocabulary import Mode, Reason


def unless_simulated(
    message: EmailMessage, is_simulated: Callable[[str], bool], *, example: str
) -> Outcome | None:
    """The refusal of a test that would reach somebody; None for anything else.

    Args:
        is_simulated: of an address, without its name and in small letters.
    """
    if message.mode is not Mode.TEST:
        return None
    everybody = (message.to, *message.cc, *message.bcc)
    if all(is_simulated(_bare(address)) for address in everybody):
        return None
    detail = f"a test by this provider can go only to its own addresses for tests, as {example}"
    return Refused(reason=Reason.INVALID_RECIPIENT, response=ProviderResponse(detail=detail))


def _bare(address: str) -> str:
    return address.rpartition("<")[2].rstrip("> ").strip().lower()
