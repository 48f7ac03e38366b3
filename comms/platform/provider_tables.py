"""The `[[CHANNEL.providers]]` tables of `comms.toml`, as far as all provider types share them.

`comms.platform.channel_tables` reads them once. The other keys of a table are the options of the
provider's type: `consumers.registry` checks them against the model of that type.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from comms.platform.toml_config import Count, Number, Table

SIMULATED_TYPE = "simulated"
_OWN_OPTIONS = "options"


class ProviderSettings(Table):
    """One `[[CHANNEL.providers]]` table.

    Attributes:
        name: the name in events and metrics.
        type: the provider type; the name unless the table says otherwise.
        weight: the share of the channel's traffic. A provider of weight 0 is used only when no
            other can be called.
        rate_limit: calls a second, of all processes together; None for no limit.
        options: the other keys of the table.
    """

    name: str = Field(min_length=1)
    type: str = Field(min_length=1, default_factory=lambda values: str(values.get("name", "")))
    weight: Count = 100
    rate_limit: Annotated[Number, Field(ge=0.1)] | None = None
    options: Mapping[str, Any] = Field(default_factory=dict, repr=False)


SIMULATED = (ProviderSettings(name=SIMULATED_TYPE),)


def separate_options(table: object) -> object:
    """Move the keys that only the provider's type knows into `options`."""
    if not isinstance(table, dict):
        return table
    shared = ProviderSettings.model_fields.keys() - {_OWN_OPTIONS}
    options = {key: value for key, value in table.items() if key not in shared}
    return {
        **{key: value for key, value in table.items() if key in shared},
        _OWN_OPTIONS: options,
    }


def with_simulated(
    providers: tuple[ProviderSettings, ...], *, has_simulator: bool
) -> tuple[ProviderSettings, ...]:
    """Add the simulated provider, for tests only, where the address of the simulator is known.

    Args:
        providers: those of one channel. If one of them is the simulated provider, nothing is added.
    """
    if not has_simulator or any(SIMULATED_TYPE in (p.type, p.name) for p in providers):
        return providers
    for_tests = ProviderSettings(name=SIMULATED_TYPE, weight=0, options={"tests_only": True})
    return (*providers, for_tests)
