"""The kind `smpp`: a carrier's SMSC, or a gateway that speaks as one, reached by SMPP 3.4.

    options       the provider's table
    building      the adapter, made from it
    provider      the adapter: a message's turn, its outcomes
    submissions   what is submitted for a message
    text          alphabets and parts
    binding       the link that is kept, and its window
    connecting    how a link is made: TLS, bind
    link          one connection, from bind to end
    hearing       deliveries, on their way to the receipt desk
    receipts      what they say
    errors        what codes mean
    pdu           frames; the library is used there alone

The library belongs to the extra `smpp`: it is loaded when a table of this kind is built.
"""

from typing import Any

from consumers.sdk.provider import Provider
from consumers.sdk.provider_type import ProviderContext, ProviderType
from consumers.sms.smpp.options import SmppOptions


def _build(context: ProviderContext[SmppOptions]) -> Provider[Any]:
    try:
        from consumers.sms.smpp.building import build  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError as error:
        if error.name != "smpp34":
            raise
        problem = "install the extra: pip install communications[smpp]"
        raise context.wrong("type", problem) from error
    return build(context)


SMPP = ProviderType(options=SmppOptions, build=_build, reports_every_message=True)
