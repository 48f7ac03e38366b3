"""Records to bytes and back: in both framings, by our codec and by an Avro library not ours."""

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


class KeptRegistry:
    """A registry in memory that remembers who registered what."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.subjects: list[str] = []

    def id_of(self, subject: str, schema: str) -> int:
        self.subjects.append(subject)
        for known, text in self.schemas.items():
            if text == schema:
                return known
        self.schemas[len(self.schemas) + 700] = schema
        return len(self.schemas) + 699

    def schema_of(self, schema_id: int) -> str:
        try:
            return self.schemas[schema_id]
        except KeyError:
            raise UnknownSchemaError(f"no schema {schema_id}") from None


def decoded(codec: Codec, value: bytes, record: Record) -> Record:
    """What the value says, read as a record of the same type."""
    # The type checker resolves the codec's type variable for one type, not for a union of them.
    decode: Callable[[bytes, type[Record]], Record] = codec.decode  # type: ignore[assignment]
    return decode(value, type(record))


def same(one: Record, other: Record) -> bool:
    """Equal field by field; messages compare by value and their repr hides it."""
    return type(one) is type(other) and all(
        getattr(one, f.name) == getattr(other, f.name) for f in fields(one)
    )


@given(records)
def test_a_record_survives_single_object_encoding(record: Record) -> None:
    codec = Codec()
    value = codec.encode(record, topic=TOPIC)
    assert value.startswith(SINGLE_OBJECT)
    assert same(decoded(codec, value, record), record)


@given(records)
def test_a_record_survives_the_confluent_format(record: Record) -> None:
    registry = KeptRegistry()
    codec = Codec(registry)
    value = codec.encode(record, topic=TOPIC)
    assert value.startswith(CONFLUENT)
    assert same(decoded(codec, value, record), record)


def test_the_confluent_prefix_is_the_registered_id_under_the_topics_subject() -> None:
    registry = KeptRegistry()
    value = Codec(registry).encode(SMS, topic=TOPIC)
    assert value[:5] == b"\x00" + (700).to_bytes(4, "big")
    assert registry.subjects == ["comms.sms-value"]
    assert registry.schemas[700] == source_of(SmsMessage)


def test_a_schema_is_registered_once_not_for_every_record() -> None:
    registry = KeptRegistry()
    codec = Codec(registry)
    for _ in range(3):
        codec.encode(SMS, topic=TOPIC)
    assert registry.subjects == ["comms.sms-value"]


def test_each_codec_reads_what_the_other_wrote_where_it_can() -> None:
    registry = KeptRegistry()
    plain, framed = Codec(), Codec(registry)
    assert framed.decode(plain.encode(SMS, topic=TOPIC), SmsMessage) == SMS
    with pytest.raises(UnknownSchemaError, match="no registry is configured"):
        plain.decode(framed.encode(SMS, topic=TOPIC), SmsMessage)


def test_an_id_the_registry_does_not_know_is_an_unknown_schema() -> None:
    with pytest.raises(UnknownSchemaError):
        Codec(KeptRegistry()).decode(b"\x00\x00\x00\x00\x09rest", SmsMessage)


class TestAnAvroLibraryThatIsNotOurs:
    """The `avro` package, with the text of the .avsc files and nothing else of ours."""

    def written(self, kind: type[Record], value: dict[str, Any]) -> bytes:
        """A single-object encoding by the specification."""
        return self.written_by(source_of(kind), value)

    def written_by(self, text: str, value: dict[str, Any]) -> bytes:
        """The same, by the text of a schema."""
        schema = avro.schema.parse(text)
        body = io.BytesIO()
        avro.io.DatumWriter(schema).write(value, avro.io.BinaryEncoder(body))
        return b"\xc3\x01" + schema.fingerprint("CRC-64-AVRO") + body.getvalue()

    def test_it_produces_what_we_read(self) -> None:
        said = {
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
        assert Codec().decode(self.written(SmsMessage, said), SmsMessage) == SMS
        del said["bypass_suppression"], said["mode"]
        first = files("schemas").joinpath("published/1/sms_message.avsc").read_text("utf-8")
        assert Codec().decode(self.written_by(first, said), SmsMessage) == SMS

    def test_the_name_it_gives_every_schema_is_one_we_know(self) -> None:
        for kind in FILE_OF:
            theirs = avro.schema.parse(source_of(kind)).fingerprint("CRC-64-AVRO")
            assert theirs == long_form_fingerprint(source_of(kind))

    @given(sms)
    def test_it_reads_an_sms_of_ours(self, message: SmsMessage) -> None:
        found = self.read(message)
        assert found["id"] in (message.id, str(message.id))
        assert (found["to"], found["body"]) == (message.to, message.body)
        assert found["from"] == message.sender
        assert found["created_at"] == message.created_at
        assert found["metadata"] == message.metadata

    @given(emails)
    def test_it_reads_a_mail_of_ours(self, message: EmailMessage) -> None:
        found = self.read(message)
        assert found["cc"] == list(message.cc)
        assert [item["content"] for item in found["attachments"]] == [
            item.content for item in message.attachments
        ]

    def read(self, record: Record) -> dict[str, Any]:
        """The record's value, by their reader."""
        value = Codec().encode(record, topic=TOPIC)
        schema = avro.schema.parse(source_of(type(record)))
        decoder = avro.io.BinaryDecoder(io.BytesIO(value[10:]))
        return cast("dict[str, Any]", avro.io.DatumReader(schema).read(decoder))


def test_a_fingerprint_is_the_specifications() -> None:
    # 0x7275d51a3f395c8f, little-endian, as the specification's own test values have it.
    assert fingerprint_of(fastavro.parse_schema("int")).hex() == "8f5c393f1ad57572"


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\xc3\x01", b"\xc3\x01short", b"{}", b"\x01" * 40]
)
def test_what_has_no_framing_is_undecodable(value: bytes) -> None:
    with pytest.raises(UndecodableError):
        Codec().decode(value, SmsMessage)


def test_a_fingerprint_nobody_published_is_an_unknown_schema() -> None:
    with pytest.raises(UnknownSchemaError, match="0101010101010101"):
        Codec().decode(SINGLE_OBJECT + b"\x01" * 8 + b"body", SmsMessage)


def test_a_value_cut_anywhere_is_undecodable() -> None:
    value = Codec().encode(SMS, topic=TOPIC)
    for length in range(len(value)):
        with pytest.raises(UndecodableError):
            Codec().decode(value[:length], SmsMessage)


def test_a_record_of_another_type_is_undecodable() -> None:
    value = Codec().encode(SMS, topic=TOPIC)
    with pytest.raises(UndecodableError):
        Codec().decode(value, EmailMessage)


def test_a_word_outside_the_vocabulary_names_field_and_message() -> None:
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


def test_a_value_its_schema_does_not_allow_is_not_encoded() -> None:
    wrong = replace(SMS, body=17)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecordError):
        Codec().encode(wrong, topic=TOPIC)


class TestOtherVersions:
    """What an older or newer writer wrote, read with the schema of today."""

    def value_by(self, schema: dict[str, Any], codec: Codec, registry: KeptRegistry) -> bytes:
        """An SMS written with `schema`, in the Confluent format."""
        number = registry.id_of("comms.sms-value", json.dumps(schema))
        body = io.BytesIO()
        data = {"id": SMS.id, "tenant": "acme", "created_at": SMS.created_at}
        fastavro.schemaless_writer(
            body, fastavro.parse_schema(schema), {**data, "to": SMS.to, "body": "Hi", "mood": "ok"}
        )
        return CONFLUENT + number.to_bytes(4, "big") + body.getvalue()

    @pytest.fixture
    def schema(self) -> dict[str, Any]:
        """Today's schema, to be changed."""
        found: dict[str, Any] = json.loads(source_of(SmsMessage))
        return found

    def test_a_field_that_an_older_writer_did_not_know_has_its_default(
        self, schema: dict[str, Any]
    ) -> None:
        schema["fields"] = [f for f in schema["fields"] if f["name"] not in {"from", "metadata"}]
        registry = KeptRegistry()
        codec = Codec(registry)
        assert codec.decode(self.value_by(schema, codec, registry), SmsMessage) == SMS

    def test_a_field_that_a_newer_writer_added_is_passed_over(self, schema: dict[str, Any]) -> None:
        schema["fields"].insert(
            3, {"name": "mood", "type": ["null", "string"], "default": None, "doc": "New."}
        )
        registry = KeptRegistry()
        codec = Codec(registry)
        assert codec.decode(self.value_by(schema, codec, registry), SmsMessage) == SMS

    def test_a_published_version_is_found_by_its_fingerprint(
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
        monkeypatch.setattr(schemas.codec, "_published", schemas.codec._published.__wrapped__)
        body = io.BytesIO()
        data = {"id": SMS.id, "tenant": "acme", "created_at": SMS.created_at}
        fastavro.schemaless_writer(body, old, {**data, "to": SMS.to, "body": "Hi"})
        value = SINGLE_OBJECT + fingerprint_of(old) + body.getvalue()
        assert Codec().decode(value, SmsMessage) == SMS
