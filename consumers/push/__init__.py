"""Notifications: the kinds of providers they go out through.

`python -m consumers.push` runs the channel.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from consumers.push.apns import APNS
from consumers.push.expo import EXPO
from consumers.push.fcm import FCM
from consumers.push.webpush import WEBPUSH
from consumers.sdk.provider_type import ProviderType
from consumers.simulator.adapter import SIMULATED

PROVIDER_TYPES: Mapping[str, ProviderType[Any]] = MappingProxyType(
    {"apns": APNS, "expo": EXPO, "fcm": FCM, "simulated": SIMULATED, "webpush": WEBPUSH}
)
