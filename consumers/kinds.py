"""The former name of `consumers.sdk.provider_type`, kept for one release for plug-ins.

A plug-in package that still imports `consumers.kinds.Kind` or `.Setup` gets the new classes and a
DeprecationWarning. Remove this module in 0.3.0.
"""

import warnings
from typing import Any

from consumers.sdk import provider_type

_NEW_NAMES = {"Kind": "ProviderType", "Setup": "ProviderContext"}


def __getattr__(name: str) -> Any:
    new_name = _NEW_NAMES.get(name, name)
    value = getattr(provider_type, new_name)
    warnings.warn(
        f"consumers.kinds.{name} is now consumers.sdk.{new_name}; the old name goes in 0.3.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return value
