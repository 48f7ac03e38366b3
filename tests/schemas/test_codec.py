"""The codec: records to bytes and back, in both framings, also with another Avro library."""

import io
import json
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import avro.io
import avro.schema
import fastavro
import pytest
from hypothesis import given

import schemas.codec
from schemas.codec import (
    CONFLUENT,
    FILE_OF,
    SINGLE_OBJECT,
    Codec,
    Record,
    fingerprint_of,
    source_of,
)
from schemas.codec import schema_of as parsed_schema_of
from schemas.errors import InvalidRecordError, UndecodableError, UnknownSchemaError
from schemas.fingerprints import long_form_fingerprint
from schemas.messages import EmailMessage, SmsMessage
from tests.schemas.samples import SMS, emails, records, sms

TOPIC = "comms.sms"


class MemoryRegistry:
    """A schema registry in memory that records every call of `id_of`."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.subjects: list[str] = []

    def id_of(self, subject: str, schema: str) -> int:
        self.subjects.append(subject)
        for schema_id, text in self.schemas.items():
            if text == schema:
                return schema_id
        self.schemas[len(self.schemas) + 700] = schema
        return len(self.schemas) + 699

    def schema_of(self, schema_id: int) -> str:
        try:
            return self.schemas[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"no schema {schema_id}") from None


def decode_like(codec: Codec, value: bytes, record: Record) -> Record:
    """Decode a value as a record of the same type as `record`."""
    # The type checker resolves the codec's type variable for one type, not for a union of them.
    decode: Callable[[bytes, type[Record]], Record] = codec.decode  # type: ignore[assignment]
    return decode(value, type(record))


def is_equal(left: Record, right: Record) -> bool:
    """Whether two records are equal field by field."""
    return type(left) is type(right) and all(
        getattr(left, f.name) == getattr(right, f.name) for f in fields(left)
    )


@given(records)
def test_single_object_encoding_round_trips_every_record(record: Record) -> None:
    codec = Codec()
    value = codec.encode(record, topic=TOPIC)
    assert value.startswith(SINGLE_OBJECT)
    assert is_equal(decode_like(codec, value, record), record)


@given(records)
def test_confluent_format_round_trips_every_record(record: Record) -> None:
    registry = MemoryRegistry()
    codec = Codec(registry)
    value = codec.encode(record, topic=TOPIC)
    assert value.startswith(CONFLUENT)
    assert is_equal(decode_like(codec, value, record), record)


def test_confluent_prefix_is_the_id_registered_under_the_topics_subject() -> None:
    registry = MemoryRegistry()
    value = Codec(registry).encode(SMS, topic=TOPIC)
    assert value[:5] == b"\x00" + (700).to_bytes(4, "big")
    assert registry.subjects == ["comms.sms-value"]
    assert registry.schemas[700] == source_of(SmsMessage)


def test_schema_is_registered_once() -> None:
    registry = MemoryRegistry()
    codec = Codec(registry)
    for _ in range(3):
        codec.encode(SMS, topic=TOPIC)
    assert registry.subjects == ["comms.sms-value"]


def test_confluent_framing_needs_a_registry_and_single_object_does_not() -> None:
    registry = MemoryRegistry()
    plain, framed = Codec(), Codec(registry)
    assert framed.decode(plain.encode(SMS, topic=TOPIC), SmsMessage) == SMS
    with pytest.raises(UnknownSchemaError, match="no registry is configured"):
        plain.decode(framed.encode(SMS, topic=TOPIC), SmsMessage)


def test_id_that_the_registry_does_not_have_is_an_unknown_schema() -> None:
    with pytest.raises(UnknownSchemaError):
        Codec(MemoryRegistry()).decode(b"\x00\x00\x00\x00\x09rest", SmsMessage)


class TestTheAvroPackage:
    """The package `avro` with the text of the .avsc files, and nothing else of this project."""

    def write(self, text: str, value: dict[str, Any]) -> bytes:
        """Write a value in single-object encoding, with the text of its schema."""
        schema = avro.schema.parse(text)
        body = io.BytesIO()
        avro.io.DatumWriter(schema).write(value, avro.io.BinaryEncoder(body))
        return b"\xc3\x01" + schema.fingerprint("CRC-64-AVRO") + body.getvalue()

    def test_codec_reads_its_values(self) -> None:
        value = {
            "id": str(SMS.id),
            "tenant": "acme",
            "created_at": SMS.created_at,
            "customer_id": None,
            "workflow": None,
            "priority": "normal",
            "send_at": None,
            "expires_at": None,
            "on_doubt": None,
            "metadata": {},
            "traceparent": None,
            "bypass_suppression": False,
            "mode": "live",
            "to": "+12025550100",
            "body": "Hi",
            "from": None,
        }
        assert Codec().decode(self.write(source_of(SmsMessage), value), SmsMessage) == SMS
        del value["bypass_suppression"], value["mode"]
        first = files("schemas").joinpath("published/1/sms_message.avsc").read_text("utf-8")
        assert Codec().decode(self.write(first, value), SmsMessage) == SMS

    def test_codec_knows_its_fingerprint_of_every_schema(self) -> None:
        for record_type in FILE_OF:
            text = source_of(record_type)
            fingerprint = avro.schema.parse(text).fingerprint("CRC-64-AVRO")
            assert fingerprint == long_form_fingerprint(text)

    @given(sms)
    def test_it_reads_our_text_messages(self, message: SmsMessage) -> None:
        fields_read = self.read(message)
        assert fields_read["id"] in (message.id, str(message.id))
        assert (fields_read["to"], fields_read["body"]) == (message.to, message.body)
        assert fields_read["from"] == message.sender
        assert fields_read["created_at"] == message.created_at
        assert fields_read["metadata"] == message.metadata

    @given(emails)
    def test_it_reads_our_emails(self, message: EmailMessage) -> None:
        fields_read = self.read(message)
        assert fields_read["cc"] == list(message.cc)
        assert [item["content"] for item in fields_read["attachments"]] == [
            item.content for item in message.attachments
        ]

    def read(self, record: Record) -> dict[str, Any]:
        """Encode a record with our codec, and read it with the package `avro`."""
        value = Codec().encode(record, topic=TOPIC)
        schema = avro.schema.parse(source_of(type(record)))
        decoder = avro.io.BinaryDecoder(io.BytesIO(value[10:]))
        return cast("dict[str, Any]", avro.io.DatumReader(schema).read(decoder))


def test_fingerprint_is_that_of_the_specification() -> None:
    # 0x7275d51a3f395c8f, little-endian: a test value of the specification.
    assert fingerprint_of(fastavro.parse_schema("int")).hex() == "8f5c393f1ad57572"


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\xc3\x01", b"\xc3\x01short", b"{}", b"\x01" * 40]
)
def test_value_without_framing_is_undecodable(value: bytes) -> None:
    with pytest.raises(UndecodableError):
        Codec().decode(value, SmsMessage)


def test_unpublished_fingerprint_is_an_unknown_schema() -> None:
    with pytest.raises(UnknownSchemaError, match="0101010101010101"):
        Codec().decode(SINGLE_OBJECT + b"\x01" * 8 + b"body", SmsMessage)


def test_truncated_value_is_undecodable() -> None:
    value = Codec().encode(SMS, topic=TOPIC)
    for length in range(len(value)):
        with pytest.raises(UndecodableError):
            Codec().decode(value[:length], SmsMessage)


def test_record_of_another_type_is_undecodable() -> None:
    value = Codec().encode(SMS, topic=TOPIC)
    with pytest.raises(UndecodableError):
        Codec().decode(value, EmailMessage)


def test_value_outside_the_vocabulary_is_reported_with_field_and_message_id() -> None:
    schema = parsed_schema_of(SmsMessage)
    body = io.BytesIO()
    data = {"id": SMS.id, "tenant": "acme", "created_at": SMS.created_at, "to": "x", "body": "b"}
    fastavro.schemaless_writer(body, schema, {**data, "priority": "at once"})
    value = SINGLE_OBJECT + fingerprint_of(schema) + body.getvalue()
    with pytest.raises(InvalidRecordError) as raised:
        Codec().decode(value, SmsMessage)
    assert [violation.field for violation in raised.value.violations] == ["priority"]
    assert (raised.value.message_id, raised.value.tenant) == (SMS.id, "acme")
    assert "at once" not in str(raised.value)


def test_value_that_its_schema_does_not_allow_is_not_encoded() -> None:
    invalid = replace(SMS, body=17)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError):
        Codec().encode(invalid, topic=TOPIC)


class TestOtherVersions:
    """Values of older and newer schema versions, read with the current schema."""

    def write(self, schema: dict[str, Any], registry: MemoryRegistry) -> bytes:
        """Write an SMS with `schema`, in the Confluent format."""
        schema_id = registry.id_of("comms.sms-value", json.dumps(schema))
        body = io.BytesIO()
        data = {"id": SMS.id, "tenant": "acme", "created_at": SMS.created_at}
        fastavro.schemaless_writer(
            body, fastavro.parse_schema(schema), {**data, "to": SMS.to, "body": "Hi", "mood": "ok"}
        )
        return CONFLUENT + schema_id.to_bytes(4, "big") + body.getvalue()

    @pytest.fixture
    def schema(self) -> dict[str, Any]:
        """The current schema, for a test to change."""
        parsed: dict[str, Any] = json.loads(source_of(SmsMessage))
        return parsed

    def test_field_that_an_older_writer_lacks_has_its_default(self, schema: dict[str, Any]) -> None:
        schema["fields"] = [f for f in schema["fields"] if f["name"] not in {"from", "metadata"}]
        registry = MemoryRegistry()
        codec = Codec(registry)
        assert codec.decode(self.write(schema, registry), SmsMessage) == SMS

    def test_field_that_a_newer_writer_added_is_ignored(self, schema: dict[str, Any]) -> None:
        schema["fields"].insert(
            3, {"name": "mood", "type": ["null", "string"], "default": None, "doc": "New."}
        )
        registry = MemoryRegistry()
        codec = Codec(registry)
        assert codec.decode(self.write(schema, registry), SmsMessage) == SMS

    def test_published_version_is_found_by_its_fingerprint(
        self, schema: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schema["fields"] = [f for f in schema["fields"] if f["name"] != "traceparent"]
        old = fastavro.parse_schema(schema)
        folder = tmp_path / "published" / "0"
        folder.mkdir(parents=True)
        (folder / "sms_message.avsc").write_text(json.dumps(schema))
        for file in FILE_OF.values():
            (tmp_path / file).write_text(
                (Path(schemas.codec.__file__).parent / file).read_text(encoding="utf-8")
            )
        monkeypatch.setattr(schemas.codec, "files", lambda _: tmp_path)
        uncached = schemas.codec._published_schemas.__wrapped__
        monkeypatch.setattr(schemas.codec, "_published_schemas", uncached)
        body = io.BytesIO()
        data = {"id": SMS.id, "tenant": "acme", "created_at": SMS.created_at}
        fastavro.schemaless_writer(body, old, {**data, "to": SMS.to, "body": "Hi"})
        value = SINGLE_OBJECT + fingerprint_of(old) + body.getvalue()
        assert Codec().decode(value, SmsMessage) == SMS
