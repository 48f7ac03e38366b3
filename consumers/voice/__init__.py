"""Voice calls: the kinds of providers they go out through.

`python -m consumers.voice` runs the channel.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from consumers.sdk.provider_type import ProviderType
from consumers.simulator.adapter import SIMULATED
from consumers.voice.twilio import TWILIO
from consumers.voice.vonage import VONAGE

PROVIDER_TYPES: Mapping[str, ProviderType[Any]] = MappingProxyType(
    {"simulated": SIMULATED, "twilio": TWILIO, "vonage": VONAGE}
)
