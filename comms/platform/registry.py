"""The Avro codec of a service, with the schema registry if one is configured.

Every service calls `build_codec`. The client of the registry is an optional extra, so it is
imported only if `COMMS_SCHEMA_REGISTRY_URL` is set. This module translates the errors of the
client.
"""

from typing import TYPE_CHECKING

from comms.platform.settings import Settings, SettingsError
from schemas.codec import Codec
from schemas.errors import UnknownSchemaError

if TYPE_CHECKING:  # an optional dependency, which only the type checker needs
    from confluent_kafka.schema_registry import SchemaRegistryClient


class RegistryUnavailableError(Exception):
    """The schema registry did not answer, or its answer cannot be used."""


class ConfluentRegistry:
    """A `schemas.codec.Registry` that uses Confluent's client, which caches ids and schemas."""

    def __init__(self, client: "SchemaRegistryClient") -> None:
        self._client = client

    def id_of(self, subject: str, schema: str) -> int:
        """Return the id of a schema; register it under the subject if it is new.

        Raises:
            RegistryUnavailableError: the registry refused the schema or did not answer.
        """
        from confluent_kafka.schema_registry import Schema  # noqa: PLC0415 - optional extra
        from confluent_kafka.schema_registry.error import (  # noqa: PLC0415
            SchemaRegistryError,
        )

        try:
            return int(self._client.register_schema(subject, Schema(schema, "AVRO")))
        except SchemaRegistryError as error:
            raise RegistryUnavailableError(f"{subject}: {error}") from error

    def schema_of(self, schema_id: int) -> str:
        """Return the schema of an id.

        Raises:
            UnknownSchemaError: the registry does not have this id.
            RegistryUnavailableError: the registry did not answer.
        """
        from confluent_kafka.schema_registry.error import (  # noqa: PLC0415
            SchemaRegistryError,
        )

        try:
            return str(self._client.get_schema(schema_id).schema_str)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise UnknownSchemaError(f"the registry has no schema {schema_id}") from error
            raise RegistryUnavailableError(f"schema {schema_id}: {error}") from error


def build_codec(settings: Settings) -> Codec:
    """Return the codec that the settings describe.

    Raises:
        SettingsError: a registry is configured and its client is not installed.
    """
    if settings.schema_registry_url is None:
        return Codec()
    try:
        from confluent_kafka.schema_registry import (  # noqa: PLC0415 - optional extra
            SchemaRegistryClient,
        )
    except ImportError as error:
        raise SettingsError(
            "COMMS_SCHEMA_REGISTRY_URL", "install the extra: pip install communications[registry]"
        ) from error
    return Codec(ConfluentRegistry(SchemaRegistryClient({"url": settings.schema_registry_url})))
