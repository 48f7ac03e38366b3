"""The simulator's settings: `[simulator]`, `[simulator.CHANNEL]` over it, and the environment.

The simulator's process reads them once. `COMMS_SIMULATOR_LATENCY_MS` sets a value for all channels,
and `COMMS_SIMULATOR_SMS_LATENCY_MS` sets it for one. A variable wins over the table that has the
same scope, and a value of the channel wins over the value for all channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from comms.platform.settings import Settings
from comms.platform.toml_config import Count, Finite, Table, Whole, validate
from consumers.simulator.behaviour import Manners
from schemas.vocabulary import Channel


class ProcessTable(Table):
    """The keys of `[simulator]` that are for the whole process.

    Attributes:
        seed: of the random numbers.
        receipt_retry_seconds: how long a receipt is offered to an endpoint that is not available.
        receipt_batch: the maximum number of receipts in one request. They are receipts that are due
            at the same time, for one endpoint.
        journal: a file to which calls are written, and from which they are read at start.
    """

    seed: Count = 1
    receipt_retry_seconds: Finite = 3600.0
    receipt_batch: Annotated[Whole, Field(ge=1)] = 100
    journal: str | None = None


class SimulatorTable(ProcessTable, Manners):
    """All of `[simulator]`; the channels' tables have the keys of `Manners`."""

    sms: dict[str, Any] = Field(default_factory=dict)
    email: dict[str, Any] = Field(default_factory=dict)
    push: dict[str, Any] = Field(default_factory=dict)
    voice: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """All settings of the process.

    Args:
        manners: how the provider behaves, by channel.
        seed: as in `ProcessTable`, like the others.
    """

    manners: Mapping[Channel, Manners]
    seed: int
    receipt_retry_seconds: float
    receipt_batch: int
    journal: Path | None


def read(settings: Settings) -> SimulatorOptions:
    """Read the simulator's settings.

    Raises:
        SettingsError: a value is wrong or a key is unknown.
    """
    names = [*Manners.model_fields, *ProcessTable.model_fields]
    general, variables = _with_environment(settings, settings.simulator, "simulator", names)
    whole = validate(SimulatorTable, general, "simulator", variables=variables)
    return SimulatorOptions(
        manners={channel: _manners(settings, channel, whole) for channel in Channel},
        seed=whole.seed,
        receipt_retry_seconds=whole.receipt_retry_seconds,
        receipt_batch=whole.receipt_batch,
        journal=Path(whole.journal) if whole.journal else None,
    )


def _manners(settings: Settings, channel: Channel, whole: SimulatorTable) -> Manners:
    key, names = f"simulator.{channel}", list(Manners.model_fields)
    own, variables = _with_environment(settings, getattr(whole, channel), key, names)
    inherited = {name: getattr(whole, name) for name in names}
    return validate(Manners, {**inherited, **own}, key, variables=variables)


def _with_environment(
    settings: Settings, table: Mapping[str, Any], key: str, names: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A table with the values of the environment over it, and the variables that they are from."""
    prefix = f"COMMS_{key.replace('.', '_')}_"
    variables = {name: f"{prefix}{name}".upper() for name in names}
    variables = {n: v for n, v in variables.items() if v in settings.environment}
    values = {name: settings.environment[variable] for name, variable in variables.items()}
    return {**table, **values}, variables
