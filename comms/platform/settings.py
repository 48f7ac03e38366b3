"""Settings: read once where a process starts, cast here, and passed inward as values.

Three places, the first wins: the environment (`COMMS_…`), the `comms.toml` that `COMMS_CONFIG`
names, and, for addresses only, the `stack.toml` that a running `comms up` leaves in its data folder
(so that another terminal or a further consumer finds it with nothing set). Secrets are never in a
file: a provider's table names the environment variable that holds one.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from comms.platform.content_limits import countries, parts
from comms.platform.database import is_address
from comms.platform.limits import TenantLimits, tenant_limits
from comms.platform.provider_tables import SIMULATED, ProviderSettings, providers, with_simulated
from comms.platform.toml_config import SettingsError
from comms.platform.toml_config import number as _number
from comms.platform.toml_config import only_known as _only_known
from comms.platform.toml_config import table as _table
from schemas.rules import Policies, Policy
from schemas.vocabulary import Channel, OnDoubt

__all__ = [
    "STACK_FILE",
    "ChannelSettings",
    "MissingSecretError",
    "ProviderSettings",
    "RetryPolicy",
    "RoutingPolicy",
    "Secret",
    "Settings",
    "SettingsError",
    "load",
]

STACK_FILE = "stack.toml"
_KAFKA = "COMMS_KAFKA_"


class MissingSecretError(SettingsError):
    """An environment variable that should hold a secret is not set: the provider that needs it
    cannot be used until it is, and the others can."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must not be shown."""

    value: str

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a channel tries again: `attempts` in all, waits of full jitter up to a growing bound.

    Args:
        base_seconds: bound of the first wait; it doubles with every attempt.
        cap_seconds: the bound never grows past this.
        deadline_seconds: no attempt begins later than so long after the message was accepted (or
            its send_at); 0 for no such bound.
    """

    attempts: int = 8
    base_seconds: float = 1.0
    cap_seconds: float = 300.0
    deadline_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPolicy:
    """How a channel turns away from a provider that does badly, and back to it.

    Args:
        window_seconds: calls that ended within it are judged; minimum_calls: fewer are not.
        error_rate, slow_rate: shares of the calls from which a provider does badly.
        slow_seconds: what counts as a slow call.
        step: points of weight moved at once; step_seconds: between two steps away.
        recover_seconds: of doing well, for each step back.
        floor: weight that even the worst provider keeps, so that its recovery is noticed.
        breaker_failures: in a row, that open the breaker; breaker_rest_seconds: its first rest,
            which doubles with each probe that fails, up to breaker_rest_cap_seconds.
        account_rest_seconds: how long a provider is left alone that refuses the account.
    """

    window_seconds: float = 60.0
    minimum_calls: int = 20
    error_rate: float = 0.1
    slow_rate: float = 0.15
    slow_seconds: float = 5.0
    step: int = 10
    step_seconds: float = 10.0
    recover_seconds: float = 300.0
    floor: int = 5
    breaker_failures: int = 10
    breaker_rest_seconds: float = 15.0
    breaker_rest_cap_seconds: float = 60.0
    account_rest_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """One `[CHANNEL]` table: how many calls at once, how to try again, through whom.

    Args:
        receipt_timeout_hours: after which a missing receipt is an event of its own; 0 for never.
        countries: ISO 3166 codes of those whose numbers may be reached; None for all. Numbers only.
        parts: that a text message may come to; 0 for as many as providers take. SMS only.
    """

    concurrency: int = 256
    on_doubt: OnDoubt = OnDoubt.RESEND
    call_timeout_seconds: float = 15.0
    receipt_timeout_hours: float = 72.0
    countries: frozenset[str] | None = None
    parts: int = 0
    retry: RetryPolicy = RetryPolicy()
    routing: RoutingPolicy = RoutingPolicy()
    providers: tuple[ProviderSettings, ...] = SIMULATED

    @property
    def policy(self) -> Policy:
        """What the content rules are told of it."""
        return Policy(countries=self.countries, parts=self.parts or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process was told.

    Args:
        kafka: librdkafka properties, `bootstrap.servers` among them once a broker is known.
        simulator: the `[simulator]` table, for the simulated provider's own process.
        simulator_url: where the simulated provider answers.
        http_host, http_port: where this process answers (API, or health and metrics).
        public_url: where the application is reached from outside; receipts are sent there.
        tenants: how many messages a second each may have accepted.
        receipt_secret: what the simulated provider signs its receipts with.
        tables: the whole of `comms.toml`, for what is not read here.
    """

    database_url: str | None = field(repr=False)
    kafka: Mapping[str, str] = field(repr=False)  # a SASL password may be among them
    schema_registry_url: str | None = field(repr=False)  # may hold a password
    channels: Mapping[Channel, ChannelSettings]
    tenants: TenantLimits
    http_host: str
    http_port: int
    public_url: str
    api_url: str
    simulator_url: str
    receipt_secret: Secret
    simulator: Mapping[str, Any]
    data_dir: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def policies(self) -> Policies:
        """What the content rules are told of each channel."""
        return {channel: own.policy for channel, own in self.channels.items()}

    def need_database(self) -> str:
        """The database's URL.

        Raises:
            SettingsError: none is set and no `comms up` runs in the data folder.
        """
        if self.database_url is None:
            raise SettingsError(
                "COMMS_DATABASE_URL",
                "not set, and no `comms up` runs here (postgresql://user:password@host:5432/name)",
            )
        return self.database_url

    def need_kafka(self) -> dict[str, str]:
        """The librdkafka properties every client shares.

        Raises:
            SettingsError: no broker is set and no `comms up` runs in the data folder.
        """
        if not self.kafka.get("bootstrap.servers"):
            raise SettingsError(
                "COMMS_KAFKA_BOOTSTRAP_SERVERS",
                "not set, and no `comms up` runs here (host:9092,host:9092)",
            )
        return dict(self.kafka)

    def secret(self, name: str, *, where: str) -> Secret:
        """The secret in environment variable `name`, which setting `where` asked for.

        Raises:
            MissingSecretError: the variable is not set.
        """
        value = self.environment.get(name)
        if not value:
            raise MissingSecretError(name, f"not set, and {where} needs it")
        return Secret(value)


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    Args:
        environment: in place of `os.environ`.

    Raises:
        SettingsError: a value is wrong, a key is unknown, or a file cannot be read.
    """
    env = dict(os.environ if environment is None else environment)
    tables = _read_toml(Path(env["COMMS_CONFIG"]), "COMMS_CONFIG") if "COMMS_CONFIG" in env else {}
    data_dir = Path(env.get("COMMS_DATA_DIR", ".comms"))
    stack_file = data_dir / STACK_FILE
    stack = _read_toml(stack_file, "COMMS_DATA_DIR") if stack_file.is_file() else {}
    port = _port(env.get("COMMS_HTTP_PORT", str(tables.get("http_port", 8080))))
    simulator = (
        env.get("COMMS_SIMULATOR_URL") or tables.get("simulator_url") or stack.get("simulator_url")
    )
    url = env.get("COMMS_URL") or stack.get("url") or f"http://127.0.0.1:{port}"
    return Settings(
        database_url=_database_url(env, tables, stack),
        kafka=_kafka(env, tables, stack),
        schema_registry_url=env.get("COMMS_SCHEMA_REGISTRY_URL")
        or tables.get("schema_registry_url"),
        channels={
            channel: _channel(
                channel, tables.get(channel, {}), env, simulator=simulator is not None
            )
            for channel in Channel
        },
        tenants=tenant_limits(tables.get("tenants", {}), env),
        http_host=env.get("COMMS_HTTP_HOST", str(tables.get("http_host", "127.0.0.1"))),
        http_port=port,
        public_url=str(env.get("COMMS_PUBLIC_URL") or tables.get("public_url") or url).rstrip("/"),
        api_url=str(url).rstrip("/"),
        simulator_url=str(simulator or "http://127.0.0.1:8087").rstrip("/"),
        receipt_secret=Secret(
            env.get("COMMS_SIMULATOR_SECRET") or stack.get("simulator_secret") or "simulated"
        ),
        simulator=_table(tables.get("simulator", {}), "simulator"),
        data_dir=data_dir,
        environment=env,
    )


def _read_toml(path: Path, key: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(key, f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(key, f"{path} is not TOML: {error}") from error


def _database_url(
    env: Mapping[str, str], tables: Mapping[str, Any], stack: Mapping[str, Any]
) -> str | None:
    url = env.get("COMMS_DATABASE_URL") or tables.get("database_url") or stack.get("database_url")
    if url is not None and not str(url).startswith(("postgresql://", "postgres://")):
        raise SettingsError("COMMS_DATABASE_URL", "must begin with postgresql://")
    if url is not None and not is_address(str(url)):  # what is wrong with it may be the password
        raise SettingsError("COMMS_DATABASE_URL", "cannot be read; is something not escaped?")
    return None if url is None else str(url).replace("postgres://", "postgresql://", 1)


def _kafka(
    env: Mapping[str, str], tables: Mapping[str, Any], stack: Mapping[str, Any]
) -> dict[str, str]:
    properties = {str(k): str(v) for k, v in _table(tables.get("kafka", {}), "kafka").items()}
    properties |= {
        name.removeprefix(_KAFKA).lower().replace("_", "."): value
        for name, value in env.items()
        if name.startswith(_KAFKA)
    }
    if "bootstrap.servers" not in properties and "kafka_bootstrap_servers" in stack:
        properties["bootstrap.servers"] = str(stack["kafka_bootstrap_servers"])
    return properties


def _channel(
    channel: Channel, value: object, env: Mapping[str, str], *, simulator: bool
) -> ChannelSettings:
    table = _table(value, channel)
    _only_known(table, channel, {f.name for f in fields(ChannelSettings)})
    concurrency = env.get(f"COMMS_{channel.upper()}_CONCURRENCY", table.get("concurrency", 256))
    return ChannelSettings(
        concurrency=int(_number(concurrency, f"{channel}.concurrency", at_least=1)),
        on_doubt=_on_doubt(table.get("on_doubt", "resend"), f"{channel}.on_doubt"),
        call_timeout_seconds=_number(
            table.get("call_timeout_seconds", 15.0), f"{channel}.call_timeout_seconds", at_least=0.1
        ),
        receipt_timeout_hours=_number(
            table.get("receipt_timeout_hours", 72.0), f"{channel}.receipt_timeout_hours", at_least=0
        ),
        countries=countries(table.get("countries"), channel),
        parts=parts(table.get("parts", 0), channel),
        retry=_retry(table.get("retry", {}), f"{channel}.retry"),
        routing=_routing(table.get("routing", {}), f"{channel}.routing"),
        providers=with_simulated(providers(table.get("providers"), channel), known=simulator),
    )


def _retry(value: object, key: str) -> RetryPolicy:
    table = _table(value, key)
    _only_known(table, key, {f.name for f in fields(RetryPolicy)})
    default = RetryPolicy()
    return RetryPolicy(
        attempts=int(
            _number(table.get("attempts", default.attempts), f"{key}.attempts", at_least=1)
        ),
        base_seconds=_number(
            table.get("base_seconds", default.base_seconds), f"{key}.base_seconds", at_least=0
        ),
        cap_seconds=_number(
            table.get("cap_seconds", default.cap_seconds), f"{key}.cap_seconds", at_least=0
        ),
        deadline_seconds=_number(
            table.get("deadline_seconds", default.deadline_seconds),
            f"{key}.deadline_seconds",
            at_least=0,
        ),
    )


def _routing(value: object, key: str) -> RoutingPolicy:
    table = _table(value, key)
    known = {f.name: type(getattr(RoutingPolicy(), f.name)) for f in fields(RoutingPolicy)}
    _only_known(table, key, set(known))
    numbers: dict[str, Any] = {
        name: known[name](_number(said, f"{key}.{name}", at_least=0))
        for name, said in table.items()
    }
    return RoutingPolicy(**numbers)


def _on_doubt(value: object, key: str) -> OnDoubt:
    try:
        return OnDoubt(str(value))
    except ValueError:
        raise SettingsError(key, "must be resend or hold") from None


def _port(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise SettingsError("COMMS_HTTP_PORT", "must be a port, 1 to 65535")
    return int(value)
