"""The options of a provider: the base model of its table in `comms.toml`, and types for its fields.

Each provider type declares one model, a subclass of `ProviderOptions` or, for a provider that is
called over HTTP, of `CallOptions`. `consumers.registry` checks a table against it once, when the
process starts, and hands the model to the adapter's builder and to the builder of the receipt
parser. So both read the same options, and each default is stated once.

    class AcmeOptions(CallOptions):
        api_key_env: SecretVariable = secret_variable("ACME_API_KEY")
        base_url: HttpsUrl = "https://api.acme.example"
        sender: Text = Field(alias="from")

An option without a default is required. `alias` is the key in the file, where that cannot be the
name of a field. A validator of the model raises ValueError with a problem such as `must be ASCII`,
or `WrongValueError` to name the option that is wrong.

Secrets are never in the file: an option names the environment variable that holds one. The variable
is looked up when the builder asks for the secret, so that a wrong option is reported before a
missing secret, and an adapter works although the secret of its receipts is missing.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema

from comms.platform.settings import MissingSecretError, Secret
from comms.platform.toml_config import Table, WrongValueError, validate
from schemas.rules import is_country

__all__ = [
    "Ascii",
    "Byte",
    "CallOptions",
    "CertificateFile",
    "CountryCode",
    "HttpsUrl",
    "Port",
    "ProviderOptions",
    "Seconds",
    "SecretVariable",
    "Text",
    "WrongValueError",
    "check_url",
    "is_loopback",
    "read_options",
    "secret_variable",
]

OptionsT = TypeVar("OptionsT", bound="ProviderOptions")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine."""
    return host in _LOOPBACK


def check_url(value: str) -> str:
    """Return an address without a slash at its end.

    Raises:
        ValueError: it is no https:// address, and no http:// address of this machine.
    """
    parts = urlsplit(value)
    is_local = parts.scheme == "http" and is_loopback(parts.hostname)
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ValueError("must begin with https:// (http:// on this machine only)")
    return value.rstrip("/")


def _check_ascii(value: str) -> str:
    if not value.isascii():
        raise ValueError("must be ASCII")
    return value


def _check_country(value: str) -> str:
    if not is_country(value):
        raise ValueError("must be the ISO 3166 code of a country, such as GB")
    return value


def _check_certificates(value: str) -> str:
    try:
        ssl.create_default_context(cafile=value)
    except OSError as error:  # ssl.SSLError is one
        raise ValueError("cannot be read as certificates") from error
    return value


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A text that is not empty."""

Ascii = Annotated[Text, AfterValidator(_check_ascii)]
HttpsUrl = Annotated[Text, AfterValidator(check_url)]
"""An https:// address without a slash at its end; http:// is for this machine only."""

CountryCode = Annotated[Text, AfterValidator(_check_country)]
CertificateFile = Annotated[Text, AfterValidator(_check_certificates)]
"""The path of a file with the certificates of authorities (PEM)."""

Seconds = Annotated[float, Field(ge=0.1)]
Port = Annotated[int, Field(ge=1, le=65535)]
Byte = Annotated[int, Field(ge=0, le=255)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsContext:
    """What the fields of a model need besides the table.

    Args:
        key: the full path of the table, such as `email.providers[smtp]`.
        environment: the variables in which secrets are looked up.
        call_timeout_seconds: the channel's limit of a call.
    """

    key: str
    environment: Mapping[str, str] = field(repr=False)
    call_timeout_seconds: float


class ProviderOptions(Table):
    """The options of a provider type; this base class has none.

    Values are strict: a number that is written as a text is refused.
    """

    model_config = ConfigDict(strict=True, validate_default=True)


class CallOptions(ProviderOptions):
    """The options of a provider that is called over HTTP.

    Attributes:
        timeout_seconds: the time limit of a call; None for the channel's `call_timeout_seconds`,
            which it must not exceed.
    """

    timeout_seconds: Seconds | None = None

    @field_validator("timeout_seconds")
    @classmethod
    def _check_timeout(cls, value: float | None, info: ValidationInfo) -> float | None:
        limit = info.context.call_timeout_seconds if info.context is not None else None
        if value is not None and limit is not None and value > limit:
            raise ValueError(f"more than call_timeout_seconds ({limit:g})")
        return value


class _CustomaryName(str):
    """The default of an option that names a variable: the table did not name one."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVariable:
    """An option that names the environment variable that holds a secret.

    The field must have the name of the option, without an alias.

    Attributes:
        option: the full path of the option, such as `sms.providers[twilio].auth_token_env`.
        variable: the name of the variable.
        is_customary: the table names no variable, and this is the option's default.
    """

    option: str
    variable: str
    is_customary: bool
    _value: str | None = field(repr=False)

    @property
    def is_expected(self) -> bool:
        """Whether the table names the variable, or the variable is set."""
        return bool(self._value) or not self.is_customary

    def secret(self) -> Secret:
        """Return the secret.

        Raises:
            MissingSecretError: the variable is not set.
        """
        if not self._value:
            raise MissingSecretError(self.variable, f"not set, and {self.option} needs it")
        return Secret(self._value)

    def optional_secret(self) -> Secret | None:
        """Return a secret that the provider can do without.

        Returns:
            None if the table names no variable and the customary one is not set.

        Raises:
            MissingSecretError: the table names the variable, and it is not set.
        """
        return self.secret() if self.is_expected else None

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        del source, handler
        return core_schema.with_info_plain_validator_function(cls._look_up)

    @classmethod
    def _look_up(cls, value: object, info: ValidationInfo) -> "SecretVariable":
        if not isinstance(value, str) or not value.strip():
            raise ValueError("must be the name of an environment variable")
        name, context = value.strip(), info.context
        key = f"{context.key}.{info.field_name}" if context is not None else info.field_name
        return cls(
            option=str(key),
            variable=name,
            is_customary=isinstance(value, _CustomaryName),
            _value=context.environment.get(name) if context is not None else None,
        )


def secret_variable(customary_name: str) -> Any:
    """The default of a field of type `SecretVariable`: the variable's customary name."""
    return Field(default=_CustomaryName(customary_name))


def read_options(
    model: type[OptionsT],
    table: Mapping[str, object],
    *,
    key: str,
    environment: Mapping[str, str],
    call_timeout_seconds: float,
) -> OptionsT:
    """Check a provider's options. Secrets are not looked at.

    Args:
        model: of the provider type.
        table: the options, without the keys that all providers share.
        key: the full path of the table, such as `email.providers[smtp]`.
        environment: the variables in which secrets are looked up.
        call_timeout_seconds: the channel's limit of a call.

    Raises:
        UnknownSettingError: an option is unknown.
        SettingsError: an option is missing or wrong.
    """
    context = OptionsContext(
        key=key, environment=environment, call_timeout_seconds=call_timeout_seconds
    )
    return validate(model, dict(table), key, context=context)
