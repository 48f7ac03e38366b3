"""What tenants may ask of us: the `[tenants]` table of `comms.toml`, as values.

`comms.platform.settings` reads it once; `producer.admission` holds tenants to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comms.platform.toml_config import SettingsError, number, only_known, table

_KEYS = {"rate_limit", "burst"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How often something may happen.

    Args:
        rate: times a second, in the long run; burst: what accumulates while it does not happen.
    """

    rate: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """Messages that tenants may have accepted: those with a limit of their own, and the others."""

    default: Limit | None = None
    own: Mapping[str, Limit | None] = field(default_factory=dict)

    def of(self, tenant: str) -> Limit | None:
        """The tenant's limit; None where it has none."""
        return self.own.get(tenant, self.default)


def tenant_limits(value: object, environment: Mapping[str, str]) -> TenantLimits:
    """The limits that a `[tenants]` table and `COMMS_TENANT_RATE_LIMIT` set.

    Raises:
        SettingsError: a key is unknown or its value wrong.
    """
    general = dict(table(value, "tenants"))
    named = {name: general.pop(name) for name in list(general) if isinstance(general[name], dict)}
    only_known(general, "tenants", _KEYS)
    rate = environment.get("COMMS_TENANT_RATE_LIMIT")
    if rate:
        general["rate_limit"] = rate
    return TenantLimits(
        default=_limit(general, "tenants"),
        own={
            name: _limit(general | _known(said, f"tenants.{name}"), f"tenants.{name}")
            for name, said in named.items()
        },
    )


def _known(said: dict[str, Any], key: str) -> dict[str, Any]:
    only_known(said, key, _KEYS)
    return said


def _limit(said: Mapping[str, Any], key: str) -> Limit | None:
    rate = number(said.get("rate_limit", 0), f"{key}.rate_limit", at_least=0)
    burst = number(said.get("burst", max(1.0, rate)), f"{key}.burst", at_least=1)
    if rate == float("inf") or burst == float("inf"):
        raise SettingsError(key, "must be a number that ends; leave it out for no limit")
    return Limit(rate=rate, burst=burst) if rate else None
