"""The simulated provider's settings: `[simulator]`, `[simulator.CHANNEL]` over it, then variables.

`COMMS_SIMULATOR_LATENCY_MS` sets a value for all channels, `COMMS_SIMULATOR_SMS_LATENCY_MS` for
one; the environment wins over the file and the channel over the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from comms.platform.settings import Settings, SettingsError
from consumers.simulator.behaviour import Manners
from schemas.vocabulary import Channel

_MANNERS = tuple(field.name for field in fields(Manners))
_SHARES = frozenset({"error_rate", "receipt_fail_rate"})
_WHOLE: Mapping[str, float] = {"seed": 1, "receipt_retry_seconds": 3600, "receipt_batch": 100}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """Everything the process was told.

    Args:
        receipt_retry_seconds: how long a receipt is offered to an endpoint that is away.
        receipt_batch: receipts that fall due together, for one endpoint, travel in one request.
        journal: a file that every call is appended to, and read back from at start.
    """

    manners: Mapping[Channel, Manners]
    seed: int = 1
    receipt_retry_seconds: float = 3600.0
    receipt_batch: int = 100
    journal: Path | None = None


def read(settings: Settings) -> SimulatorOptions:
    """The options in `settings`.

    Raises:
        SettingsError: a value is wrong or a key unknown.
    """
    table = settings.simulator
    _only_known(table, "simulator", {*_MANNERS, *_WHOLE, "journal", *map(str, Channel)})
    whole = {
        name: _number(settings, "simulator", name, default) for name, default in _WHOLE.items()
    }
    journal = settings.environment.get("COMMS_SIMULATOR_JOURNAL") or table.get("journal")
    return SimulatorOptions(
        manners={channel: _manners(settings, channel) for channel in Channel},
        seed=int(whole["seed"]),
        receipt_retry_seconds=whole["receipt_retry_seconds"],
        receipt_batch=max(1, int(whole["receipt_batch"])),
        journal=None if journal is None else Path(str(journal)),
    )


def _manners(settings: Settings, channel: Channel) -> Manners:
    own = f"simulator.{channel}"
    table = settings.simulator.get(channel, {})
    if not isinstance(table, dict):
        raise SettingsError(own, "must be a table")
    _only_known(table, own, set(_MANNERS))
    default = Manners()
    values: dict[str, float] = {}
    for name in _MANNERS:
        general = _number(settings, "simulator", name, getattr(default, name))
        values[name] = _number(settings, own, name, general)
    return Manners(**values)


def _number(settings: Settings, where: str, name: str, default: float) -> float:
    """The environment's value, else the table's, else `default`."""
    table: Mapping[str, Any] = settings.simulator
    for part in where.split(".")[1:]:
        table = table.get(part, {})
    variable = f"COMMS_{where.replace('.', '_')}_{name}".upper()
    from_environment = settings.environment.get(variable)
    key = f"{where}.{name}" if from_environment is None else variable
    value = table.get(name, default) if from_environment is None else from_environment
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingsError(key, "must be a number") from None
    if not 0 <= number < float("inf"):
        raise SettingsError(key, "must be at least 0")
    if name in _SHARES and number > 1:
        raise SettingsError(key, "must be a share, 0 to 1")
    return number


def _only_known(table: Mapping[str, Any], where: str, known: set[str]) -> None:
    for name in table:
        if name not in known:
            raise SettingsError(
                f"{where}.{name}", f"no such setting; known: {', '.join(sorted(known))}"
            )
