"""The codec: records to bytes and back, in two framings.

A producer calls `Codec.encode`, a consumer `Codec.decode`. Without a schema registry, a value is an
Avro single-object encoding (`C3 01`, the CRC-64-AVRO fingerprint of the schema, the body). With a
registry, it is Confluent's wire format (`00`, the registered id of the schema, the body). Decoding
accepts both. It resolves values of older and newer schema versions against the schema in this
package.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any, Protocol, TypeVar, cast

import fastavro
from fastavro.schema import SchemaParseException, fingerprint, to_parsing_canonical_form
from fastavro.types import Schema

from schemas.errors import InvalidRecordError, UndecodableError, UnknownSchemaError, Violation
from schemas.events import StatusEvent
from schemas.fingerprints import long_form_fingerprint
from schemas.messages import (
    Attachment,
    EmailMessage,
    PushMessage,
    SmsMessage,
    VoiceMessage,
    WebPushSubscription,
)
from schemas.vocabulary import Channel, Mode, OnDoubt, Platform, Priority, Reason, Status

Record = SmsMessage | EmailMessage | PushMessage | VoiceMessage | StatusEvent
R = TypeVar("R", SmsMessage, EmailMessage, PushMessage, VoiceMessage, StatusEvent)

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"

FILE_OF: Mapping[type[Record], str] = {
    SmsMessage: "sms_message.avsc",
    EmailMessage: "email_message.avsc",
    PushMessage: "push_message.avsc",
    VoiceMessage: "voice_message.avsc",
    StatusEvent: "status_event.avsc",
}

# Pairs of (Avro name, Python name) of a record's fields.
_NAMES: Mapping[type[Record], tuple[tuple[str, str], ...]] = {
    record_type: tuple(
        ("from" if f.name == "sender" else f.name, f.name) for f in fields(record_type)
    )
    for record_type in FILE_OF
}

_ENUMS: Mapping[str, Callable[[str], object]] = {
    "channel": Channel,
    "status": Status,
    "reason": Reason,
    "priority": Priority,
    "mode": Mode,
    "on_doubt": OnDoubt,
    "platform": Platform,
}


class Registry(Protocol):
    """The part of a schema registry that the codec needs."""

    def id_of(self, subject: str, schema: str) -> int:
        """Return the id of `schema` (JSON) under `subject`. Register the schema if it is new."""

    def schema_of(self, schema_id: int) -> str:
        """Return the schema (JSON) of an id.

        Raises:
            UnknownSchemaError: the registry does not have this id.
        """


def source_of(record_type: type[Record]) -> str:
    """Return the text of the `.avsc` file of a record type."""
    return files("schemas").joinpath(FILE_OF[record_type]).read_text(encoding="utf-8")


def schema_of(record_type: type[Record]) -> Schema:
    """Return the parsed schema of a record type."""
    return _parse(FILE_OF[record_type])


@cache
def _parse(file: str) -> Schema:
    return fastavro.parse_schema(json.loads(files("schemas").joinpath(file).read_text("utf-8")))


def fingerprint_of(schema: Schema) -> bytes:
    """Return the eight bytes that name a schema in a single-object encoding (CRC-64-AVRO)."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


@cache
def _published_schemas() -> Mapping[bytes, Schema]:
    """Return every published schema by its fingerprints, the one of `avro` included."""
    root = files("schemas").joinpath("published")
    texts = [
        path.read_text(encoding="utf-8")
        for version in root.iterdir()
        if version.is_dir()
        for path in version.iterdir()
        if path.name.endswith(".avsc")
    ]
    parsed = [(text, fastavro.parse_schema(json.loads(text))) for text in texts]
    parsed += [(source_of(record_type), schema_of(record_type)) for record_type in FILE_OF]
    return {
        schema_fingerprint: schema
        for text, schema in parsed
        for schema_fingerprint in (fingerprint_of(schema), long_form_fingerprint(text))
    }


class Codec:
    """Encodes and decodes the records of the contract.

    Args:
        registry: a schema registry. If given, values are written in Confluent's wire format.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry
        self._prefixes: dict[type[Record], bytes] = {}
        self._by_id: dict[int, Schema] = {}

    def encode(self, record: Record, *, topic: str) -> bytes:
        """Return the value to produce to `topic`.

        Raises:
            InvalidRecordError: a field has a value that its schema does not allow.
        """
        record_type = type(record)
        buffer = io.BytesIO()
        buffer.write(self._prefix(record_type, topic))
        try:
            fastavro.schemaless_writer(buffer, schema_of(record_type), _to_avro(record))
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidRecordError((Violation(record_type.__name__, str(error)),)) from error
        return buffer.getvalue()

    def decode(self, value: bytes, record_type: type[R]) -> R:
        """Return the record in `value`.

        Raises:
            UndecodableError: the bytes are not a record of this type.
            UnknownSchemaError: the bytes name a schema that is not published.
            InvalidRecordError: the record has a value that is not in the vocabulary.
        """
        writer, body = self._split(value)
        reader = schema_of(record_type)
        try:
            data = fastavro.schemaless_reader(
                io.BytesIO(body), writer, None if writer is reader else reader
            )
        except Exception as error:  # the type depends on the bytes; fastavro documents none
            problem = f"not a {record_type.__name__}: {type(error).__name__}"
            raise UndecodableError(problem) from error
        return _from_avro(record_type, cast("dict[str, Any]", data))

    def _prefix(self, record_type: type[Record], topic: str) -> bytes:
        prefix = self._prefixes.get(record_type)
        if prefix is None:
            prefix = self._prefixes[record_type] = self._new_prefix(record_type, topic)
        return prefix

    def _new_prefix(self, record_type: type[Record], topic: str) -> bytes:
        if self._registry is None:
            return SINGLE_OBJECT + fingerprint_of(schema_of(record_type))
        schema_id = self._registry.id_of(f"{topic}-value", source_of(record_type))
        return CONFLUENT + struct.pack(">I", schema_id)

    def _split(self, value: bytes) -> tuple[Schema, bytes]:
        """Return the schema that wrote a value, and the body of the value."""
        if value.startswith(SINGLE_OBJECT) and len(value) > 10:
            return _schema_by_fingerprint(value[2:10]), value[10:]
        if value.startswith(CONFLUENT) and len(value) > 5:
            return self._schema_by_id(struct.unpack(">I", value[1:5])[0]), value[5:]
        raise UndecodableError("neither an Avro single-object encoding nor Confluent's wire format")

    def _schema_by_id(self, schema_id: int) -> Schema:
        if schema_id not in self._by_id:
            if self._registry is None:
                raise UnknownSchemaError(f"schema id {schema_id}, but no registry is configured")
            text = self._registry.schema_of(schema_id)
            try:
                self._by_id[schema_id] = fastavro.parse_schema(json.loads(text))
            except (ValueError, SchemaParseException) as error:
                raise UnknownSchemaError(f"schema id {schema_id} is not an Avro schema") from error
        return self._by_id[schema_id]


def _schema_by_fingerprint(value: bytes) -> Schema:
    try:
        return _published_schemas()[value]
    except KeyError:
        raise UnknownSchemaError(f"no published schema has fingerprint {value.hex()}") from None


_NULL = ("null", None)


@cache
def _nullable_fields(file: str) -> tuple[tuple[str, str], ...]:
    """Return the nullable fields of a primitive type, each with the name of that type.

    With the branch of a union given, fastavro does not try the branches, which is slow.
    """
    nullable = []
    for field in cast("dict[str, Any]", _parse(file))["fields"]:
        match field["type"]:
            case ["null", str() as branch] | ["null", {"type": str() as branch, "logicalType": _}]:
                nullable.append((field["name"], branch))
    return tuple(nullable)


def _to_avro(record: Record) -> dict[str, Any]:
    record_type = type(record)
    data = {avro: getattr(record, name) for avro, name in _NAMES[record_type]}
    for name, branch in _nullable_fields(FILE_OF[record_type]):
        value = data[name]
        data[name] = _NULL if value is None else (branch, value)
    match record:
        case EmailMessage():
            data["attachments"] = [_to_dict(item) for item in record.attachments]
        case PushMessage() if record.subscription is not None:
            data["subscription"] = _to_dict(record.subscription)
        case _:
            pass
    return data


def _to_dict(value: Attachment | WebPushSubscription) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _from_avro(record_type: type[R], data: dict[str, Any]) -> R:
    values = {name: data[avro] for avro, name in _NAMES[record_type]}
    violations = []
    for name, enum in _ENUMS.items():
        if (text := values.get(name)) is not None:
            try:
                values[name] = enum(text)
            except ValueError:
                violations.append(Violation(name, "not one of the known values"))
    if violations:
        raise InvalidRecordError(tuple(violations), values["id"], values["tenant"])
    if record_type is EmailMessage:
        values["attachments"] = tuple(Attachment(**item) for item in values["attachments"])
        values["cc"], values["bcc"] = tuple(values["cc"]), tuple(values["bcc"])
    elif record_type is PushMessage:
        values["tokens"] = tuple(values["tokens"])
        if values["subscription"] is not None:
            values["subscription"] = WebPushSubscription(**values["subscription"])
    return record_type(**values)
