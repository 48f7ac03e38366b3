"""How many messages tenants may have accepted: the `[tenants]` table of `comms.toml`, as values.

`comms.platform.settings` reads it once. `producer.admission` applies it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from comms.platform.toml_config import NotNegative, Number, SettingsError, Table, validate

VARIABLE = "COMMS_TENANT_RATE_LIMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often something may happen.

    Args:
        rate: times a second, in the long run.
        burst: how many accumulate while it does not happen.
    """

    rate: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """The limits of tenants.

    Args:
        default: of a tenant without a limit of its own; None for no limit.
        own: by tenant; None for no limit.
    """

    default: Limit | None = None
    own: Mapping[str, Limit | None] = field(default_factory=dict)

    def of(self, tenant: str) -> Limit | None:
        """The tenant's limit; None if it has none."""
        return self.own.get(tenant, self.default)


class TenantTable(Table):
    """`[tenants]`, or the table of one tenant in it.

    Attributes:
        rate_limit: messages a second; 0 for no limit.
        burst: the messages of one second, at least 1, unless the table says otherwise.
    """

    rate_limit: NotNegative = 0.0
    burst: Annotated[Number, Field(ge=1)] | None = None


def tenant_limits(value: object, environment: Mapping[str, str]) -> TenantLimits:
    """Read a `[tenants]` table; `COMMS_TENANT_RATE_LIMIT` wins over its `rate_limit`.

    A tenant's own table inherits the keys that it leaves out.

    Raises:
        SettingsError: a key is unknown or a value is wrong.
    """
    if not isinstance(value, dict):
        raise SettingsError("tenants", "must be a table")
    own = {name: table for name, table in value.items() if isinstance(table, dict)}
    general = {name: setting for name, setting in value.items() if name not in own}
    rate, variables = environment.get(VARIABLE), {}
    if rate:
        general["rate_limit"] = rate
        variables = {"rate_limit": VARIABLE}
    return TenantLimits(
        default=_limit(general, "tenants", variables),
        own={name: _limit(general | table, f"tenants.{name}") for name, table in own.items()},
    )


def _limit(
    table: dict[str, Any], key: str, variables: Mapping[str, str] | None = None
) -> Limit | None:
    found = validate(TenantTable, table, key, variables=variables or {})
    burst = max(1.0, found.rate_limit) if found.burst is None else found.burst
    if float("inf") in (found.rate_limit, burst):
        raise SettingsError(key, "must be a finite number; leave it out for no limit")
    return Limit(rate=found.rate_limit, burst=burst) if found.rate_limit else None
