"""Text messages: the kinds of providers they go out through.

`python -m consumers.sms` runs the channel.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from consumers.sdk.provider_type import ProviderType
from consumers.simulator.adapter import SIMULATED
from consumers.sms.aws import AWS
from consumers.sms.smpp import SMPP
from consumers.sms.sns import SNS
from consumers.sms.telnyx import TELNYX
from consumers.sms.twilio import TWILIO
from consumers.sms.vonage import VONAGE

PROVIDER_TYPES: Mapping[str, ProviderType[Any]] = MappingProxyType(
    {
        "aws": AWS,
        "simulated": SIMULATED,
        "smpp": SMPP,
        "sns": SNS,
        "telnyx": TELNYX,
        "twilio": TWILIO,
        "vonage": VONAGE,
    }
)
