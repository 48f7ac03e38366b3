"""The `[sms]`, `[email]`, `[push]` and `[voice]` tables of `comms.toml`, as values.

`comms.platform.settings` reads each once. The pipeline, the router and the content rules receive
their part of it. The countries and the length of a text are checked when a message is accepted and
again before it is sent, so that a stolen key cannot be used to send to expensive destinations.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from comms.platform.provider_tables import (
    SIMULATED,
    ProviderSettings,
    separate_options,
    with_simulated,
)
from comms.platform.toml_config import (
    Count,
    NotNegative,
    Number,
    SettingsError,
    Table,
    Whole,
    WrongValueError,
    validate,
)
from schemas.rules import Policy, is_country
from schemas.vocabulary import Channel, OnDoubt


class RetryPolicy(Table):
    """How a channel repeats attempts: with full jitter, up to a bound that doubles.

    Attributes:
        attempts: the maximum number of attempts.
        base_seconds: the bound of the first wait. It doubles with every attempt.
        cap_seconds: the bound never grows above this.
        deadline_seconds: no attempt begins later than this after the message was accepted (or after
            its `send_at`); 0 for no deadline.
    """

    attempts: Annotated[Whole, Field(ge=1)] = 8
    base_seconds: NotNegative = 1.0
    cap_seconds: NotNegative = 300.0
    deadline_seconds: NotNegative = 0.0


class RoutingPolicy(Table):
    """How a channel moves traffic away from a provider that performs badly, and back to it.

    Attributes:
        window_seconds: calls that ended within this time are counted.
        minimum_calls: fewer calls than these are not judged.
        error_rate: from this share of failed calls on, a provider performs badly.
        slow_rate: from this share of slow calls on, a provider performs badly.
        slow_seconds: a call that takes longer is slow.
        step: the weight that is moved at once, in points.
        step_seconds: the time between two steps down.
        recover_seconds: the time of good performance before each step up.
        floor: the weight that even the worst provider keeps, so that its recovery is noticed.
        breaker_failures: failures in a row that open the breaker.
        breaker_rest_seconds: the first rest of an open breaker. It doubles with each failed probe.
        breaker_rest_cap_seconds: a rest never grows above this.
        account_rest_seconds: how long a provider is not called after it refused the account.
    """

    window_seconds: NotNegative = 60.0
    minimum_calls: Count = 20
    error_rate: NotNegative = 0.1
    slow_rate: NotNegative = 0.15
    slow_seconds: NotNegative = 5.0
    step: Count = 10
    step_seconds: NotNegative = 10.0
    recover_seconds: NotNegative = 300.0
    floor: Count = 5
    breaker_failures: Count = 10
    breaker_rest_seconds: NotNegative = 15.0
    breaker_rest_cap_seconds: NotNegative = 60.0
    account_rest_seconds: NotNegative = 300.0


class ChannelSettings(Table):
    """One `[CHANNEL]` table: how many calls at once, how attempts are repeated, by which providers.

    Attributes:
        concurrency: simultaneous provider calls of one process.
        on_doubt: what happens when the answer to a call was lost; a message may say otherwise.
        call_timeout_seconds: the time limit of one call.
        receipt_timeout_hours: if no receipt arrived after this time, an event reports it; 0: never.
        countries: ISO 3166 codes of the countries that may be reached; None for all.
        parts: the maximum number of segments of a text; 0 for as many as providers accept.
        retry: how attempts are repeated.
        routing: how weights change.
        providers: the channel's providers.
    """

    concurrency: Annotated[Whole, Field(ge=1)] = 256
    on_doubt: OnDoubt = OnDoubt.RESEND
    call_timeout_seconds: Annotated[Number, Field(ge=0.1)] = 15.0
    receipt_timeout_hours: NotNegative = 72.0
    countries: frozenset[str] | None = None
    parts: Count = 0
    retry: RetryPolicy = RetryPolicy()
    routing: RoutingPolicy = RoutingPolicy()
    providers: tuple[ProviderSettings, ...] = SIMULATED

    @field_validator("countries", mode="before")
    @classmethod
    def _check_countries(cls, value: object) -> object:
        if value is None or isinstance(value, frozenset):
            return value
        if not isinstance(value, list) or not value:
            raise ValueError('must be a list of countries, such as ["US", "CA"]')
        for code in value:
            if not isinstance(code, str) or not is_country(code):
                raise ValueError(f"{code!r} is no ISO 3166 code of a country, such as GB")
        return frozenset(value)

    @field_validator("providers", mode="before")
    @classmethod
    def _check_providers(cls, value: object) -> object:
        if isinstance(value, tuple):
            return value
        if not isinstance(value, list):
            raise WrongValueError("write it as [[…]] tables")
        return tuple(map(separate_options, value))

    @field_validator("providers")
    @classmethod
    def _check_names(cls, value: tuple[ProviderSettings, ...]) -> tuple[ProviderSettings, ...]:
        if len({provider.name for provider in value}) != len(value):
            raise ValueError("two providers have the same name")
        return value

    @property
    def policy(self) -> Policy:
        """The part of the settings that the content rules need."""
        return Policy(countries=self.countries, parts=self.parts or None)


def channel_settings(
    channel: Channel, table: Any, environment: Mapping[str, str], *, has_simulator: bool
) -> ChannelSettings:
    """Read a channel's table; `COMMS_<CHANNEL>_CONCURRENCY` wins over it.

    Args:
        has_simulator: the address of the simulator is known. Every channel then has the simulated
            provider, for tests.

    Raises:
        SettingsError: a key is unknown, a value is wrong, or a key is for other channels.
    """
    variable = f"COMMS_{channel.upper()}_CONCURRENCY"
    from_environment = variable in environment and isinstance(table, dict)
    found = validate(
        ChannelSettings,
        {**table, "concurrency": environment[variable]} if from_environment else table,
        channel,
        variables={"concurrency": variable} if from_environment else {},
    )
    if found.countries is not None and channel not in (Channel.SMS, Channel.VOICE):
        raise SettingsError(f"{channel}.countries", "is for sms and voice only")
    if found.parts and channel is not Channel.SMS:
        raise SettingsError(f"{channel}.parts", "is for sms only")
    providers = with_simulated(found.providers, has_simulator=has_simulator)
    return found.model_copy(update={"providers": providers})
