"""Settings: read once when a process starts, checked here, and passed on as values.

The first of three places that has a value wins: the environment (`COMMS_…`), the `comms.toml` that
`COMMS_CONFIG` names, and, for addresses only, the `stack.toml` that a running `comms up` keeps in
its data folder. With it, a command in another terminal finds the running system although no
variable is set. Secrets are never in a file: a provider's table names the environment variable that
holds one.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from comms.platform.channel_tables import (
    ChannelSettings,
    RetryPolicy,
    RoutingPolicy,
    channel_settings,
)
from comms.platform.database import is_valid_url
from comms.platform.limits import TenantLimits, tenant_limits
from comms.platform.provider_tables import ProviderSettings
from comms.platform.toml_config import (
    SettingsError,
    Table,
    UnknownSettingError,
    WrongValueError,
    validate,
)
from schemas.rules import Policies
from schemas.vocabulary import Channel

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
    "UnknownSettingError",
    "load",
]

STACK_FILE = "stack.toml"
_KAFKA = "COMMS_KAFKA_"
_KAFKA_SERVERS = "bootstrap.servers"


class MissingSecretError(SettingsError):
    """An environment variable that should hold a secret is not set.

    Only the provider that needs it cannot be used.
    """


@dataclass(frozen=True, slots=True)
class Secret:
    """A value whose representation does not show it."""

    value: str

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a process.

    Args:
        database_url: of PostgreSQL; None if none is known.
        kafka: librdkafka properties, `bootstrap.servers` among them once a broker is known.
        schema_registry_url: None for Avro's single-object encoding.
        channels: one for each channel.
        tenants: how many messages a second each may have accepted.
        http_host: the address on which this process listens.
        http_port: the port of the API, or of health and metrics.
        public_url: where the application is reached from outside. Receipts are sent there.
        api_url: the API that the command line calls.
        simulator_url: the address of the simulator.
        receipt_secret: signs the receipts of the simulated provider.
        simulator: the `[simulator]` table, for the simulator's own process.
        data_dir: the data folder of `comms up`.
        environment: the variables that the settings were read from; secrets are looked up in it.
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
        """What the content rules need of each channel."""
        return {channel: settings.policy for channel, settings in self.channels.items()}

    def need_database(self) -> str:
        """The database's URL.

        Raises:
            SettingsError: none is set, and no `comms up` runs in the data folder.
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
            SettingsError: no broker is set, and no `comms up` runs in the data folder.
        """
        if not self.kafka.get(_KAFKA_SERVERS):
            raise SettingsError(
                "COMMS_KAFKA_BOOTSTRAP_SERVERS",
                "not set, and no `comms up` runs here (host:9092,host:9092)",
            )
        return dict(self.kafka)


def _text_or_scalar(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise WrongValueError("must be a text or a number; a name with dots is written in quotes")
    return str(value)


def _port(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("must be a port, 1 to 65535")
    return int(text)


class ConfigFile(Table):
    """The top level of `comms.toml`. The tables in it have models of their own.

    Attributes:
        database_url: as in `Settings`, like the other addresses.
        kafka: librdkafka properties. librdkafka itself refuses a name that it does not know.
        tenants: see `comms.platform.limits`.
        simulator: see `consumers.simulator.options`.
        sms: see `comms.platform.channel_tables`, for this and the other channels.
    """

    database_url: str | None = None
    schema_registry_url: str | None = None
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, BeforeValidator(_port)] = 8080
    public_url: str | None = None
    simulator_url: str | None = None
    kafka: dict[str, Annotated[str, BeforeValidator(_text_or_scalar)]] = Field(default_factory=dict)
    tenants: dict[str, Any] = Field(default_factory=dict)
    simulator: dict[str, Any] = Field(default_factory=dict)
    sms: dict[str, Any] = Field(default_factory=dict)
    email: dict[str, Any] = Field(default_factory=dict)
    push: dict[str, Any] = Field(default_factory=dict)
    voice: dict[str, Any] = Field(default_factory=dict)

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        if not is_valid_url(value):  # the part that is wrong may be the password
            raise ValueError("cannot be read; a character in it may have to be escaped")
        return value.replace("postgres://", "postgresql://", 1)


# Addresses: an empty variable is the same as none.
_ADDRESSES = ("database_url", "schema_registry_url", "public_url", "simulator_url")
_LISTENING = ("http_host", "http_port")


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    Args:
        environment: in place of `os.environ`.

    Raises:
        SettingsError: a value is wrong, a key is unknown, or a file cannot be read.
    """
    env = dict(os.environ if environment is None else environment)
    data_dir = Path(env.get("COMMS_DATA_DIR", ".comms"))
    stack_file = data_dir / STACK_FILE
    stack = _read_toml(stack_file, "COMMS_DATA_DIR") if stack_file.is_file() else {}
    written = _read_toml(Path(env["COMMS_CONFIG"]), "COMMS_CONFIG") if "COMMS_CONFIG" in env else {}
    file = _config_file(written, env, stack)
    url = env.get("COMMS_URL") or stack.get("url") or f"http://127.0.0.1:{file.http_port}"
    return Settings(
        database_url=file.database_url,
        kafka=_kafka(file.kafka, env, stack),
        schema_registry_url=file.schema_registry_url,
        channels={
            channel: channel_settings(
                channel,
                getattr(file, channel),
                env,
                has_simulator=bool(file.simulator_url),
            )
            for channel in Channel
        },
        tenants=tenant_limits(file.tenants, env),
        http_host=file.http_host,
        http_port=file.http_port,
        public_url=(file.public_url or str(url)).rstrip("/"),
        api_url=str(url).rstrip("/"),
        simulator_url=(file.simulator_url or "http://127.0.0.1:8087").rstrip("/"),
        receipt_secret=Secret(
            env.get("COMMS_SIMULATOR_SECRET") or stack.get("simulator_secret") or "simulated"
        ),
        simulator=file.simulator,
        data_dir=data_dir,
        environment=env,
    )


def _config_file(
    written: Mapping[str, Any], env: Mapping[str, str], stack: Mapping[str, Any]
) -> ConfigFile:
    """The top level, with the values of the environment and of `stack.toml` in their places."""
    variables = {name: f"COMMS_{name.upper()}" for name in (*_ADDRESSES, *_LISTENING)}
    variables = {
        name: variable
        for name, variable in variables.items()
        if env.get(variable) or (name in _LISTENING and variable in env)
    }
    values = {
        **{name: stack[name] for name in ("database_url", "simulator_url") if name in stack},
        **written,
        **{name: env[variable] for name, variable in variables.items()},
    }
    return validate(ConfigFile, values, "", variables=variables)


def _read_toml(path: Path, key: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(key, f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(key, f"{path} is not TOML: {error}") from error


def _kafka(
    written: Mapping[str, str], env: Mapping[str, str], stack: Mapping[str, Any]
) -> dict[str, str]:
    """The properties of the file, with those of the environment over them."""
    properties = dict(written)
    properties |= {
        name.removeprefix(_KAFKA).lower().replace("_", "."): value
        for name, value in env.items()
        if name.startswith(_KAFKA)
    }
    if _KAFKA_SERVERS not in properties and "kafka_bootstrap_servers" in stack:
        properties[_KAFKA_SERVERS] = str(stack["kafka_bootstrap_servers"])
    return properties
