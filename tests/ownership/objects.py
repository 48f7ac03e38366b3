"""The list of the database's objects: tables, and the views and functions that services publish.

A schema belongs to one service. Another service may read an object only if it is published to it
here, and may write none.
"""

from dataclasses import dataclass
from enum import StrEnum


class Owner(StrEnum):
    """A schema of the database, by the name of the service that it belongs to."""

    PRODUCER = "producer"
    CONSUMERS = "consumers"
    AUDIT = "audit"
    PLATFORM = "comms"


class ObjectKind(StrEnum):
    """What an object of the database is."""

    TABLE = "table"
    VIEW = "view"
    FUNCTION = "function"


SERVICES = frozenset({Owner.PRODUCER, Owner.CONSUMERS, Owner.AUDIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseObject:
    """One object of the database.

    Args:
        name: with its schema, such as `producer.message`.
        writers: the parts of the owner that write it, as the document names them.
        readers: the same for reading.
        published_to: the other services that may read it.
    """

    name: str
    kind: ObjectKind
    writers: str
    readers: str
    published_to: frozenset[Owner] = frozenset()

    @property
    def owner(self) -> Owner:
        """The service that the object belongs to."""
        return Owner(self.name.partition(".")[0])


def _table(name: str, *, writers: str, readers: str) -> DatabaseObject:
    return DatabaseObject(name=name, kind=ObjectKind.TABLE, writers=writers, readers=readers)


def _view(name: str, *published_to: Owner, readers: str) -> DatabaseObject:
    return DatabaseObject(
        name=name,
        kind=ObjectKind.VIEW,
        writers="",
        readers=readers,
        published_to=frozenset(published_to),
    )


def _function(name: str, *published_to: Owner, readers: str, writers: str = "") -> DatabaseObject:
    return DatabaseObject(
        name=name,
        kind=ObjectKind.FUNCTION,
        writers=writers,
        readers=readers,
        published_to=frozenset(published_to),
    )


_ACCEPTING = "accepting (API, library)"

OBJECTS = (
    _table("producer.message", writers=_ACCEPTING, readers="API, relay"),
    _table(
        "producer.outbox",
        writers=f"{_ACCEPTING}; the relay deletes; a cancellation deletes",
        readers="relay",
    ),
    _table(
        "producer.scheduled",
        writers=f"{_ACCEPTING}; the relay and a cancellation delete",
        readers="relay",
    ),
    _table("producer.relay_position", writers="relay", readers="relay"),
    _table("producer.allowance", writers="API (tenants' rate limits)", readers="API"),
    _view(
        "producer.accepted_message",
        Owner.AUDIT,
        Owner.CONSUMERS,
        readers="audit: queries; consumers: resends, resolutions, suppression by receipts",
    ),
    _view("producer.queued_message", Owner.AUDIT, readers="audit: queries"),
    _view("producer.scheduled_message", Owner.AUDIT, readers="audit: queries"),
    _function("producer.tenant_backlog", Owner.AUDIT, readers="audit: queries"),
    _table(
        "consumers.attempt",
        writers="channels; `consumers.withdraw`",
        readers="channels, receipts, redrive",
    ),
    _table(
        "consumers.outcome",
        writers="channels; `consumers.withdraw`",
        readers="channels, receipts, redrive",
    ),
    _table(
        "consumers.deferred",
        writers="channels, redrive (resends); `consumers.withdraw` deletes",
        readers="channels, redrive",
    ),
    _table(
        "consumers.receipt",
        writers="receipts, channels, redrive (resolutions)",
        readers="channels, redrive",
    ),
    _table(
        "consumers.suppression",
        writers="suppression API, receipts, channels",
        readers="channels, suppression API",
    ),
    _table("consumers.route", writers="channels", readers="channels"),
    _table("consumers.route_slot", writers="channels", readers="channels"),
    _table("consumers.allowance", writers="channels", readers="channels"),
    _table("consumers.worker", writers="channels, every other second", readers="channels"),
    _view("consumers.worker_report", Owner.AUDIT, readers="audit: queries (readiness)"),
    _function(
        "consumers.delivery_status",
        Owner.PRODUCER,
        readers="producer: answer to a repeated idempotency key",
    ),
    _function("consumers.is_deferred", Owner.PRODUCER, readers="producer: cancellation"),
    _function(
        "consumers.withdraw",
        Owner.PRODUCER,
        writers="`consumers.attempt`, `consumers.outcome`, `consumers.deferred`",
        readers="producer: cancellation",
    ),
    _function("consumers.ensure_partitions", readers="channels"),
    _table("audit.history", writers="ingest", readers="ingest, queries, export"),
    _table("audit.state", writers="ingest", readers="ingest, queries"),
    _table("audit.rollup", writers="ingest", readers="queries"),
    _table("audit.evidence", writers="ingest", readers="queries"),
    _table("audit.consumer_offset", writers="ingest", readers="ingest, queries"),
    _view("audit.recording_progress", Owner.CONSUMERS, readers="consumers: recovery"),
    _view(
        "audit.recorded_event",
        Owner.CONSUMERS,
        readers="consumers: recovery, receipt timeouts",
    ),
    _view(
        "audit.recorded_message",
        Owner.CONSUMERS,
        readers="consumers: receipt timeouts, resends, resolutions, suppression by receipts",
    ),
    _function(
        "audit.newest_messages_to",
        Owner.CONSUMERS,
        readers="consumers: recipients who write STOP",
    ),
    _view("audit.message", readers="analysts ([analytics.md](analytics.md))"),
    _view("audit.event", readers="analysts ([analytics.md](analytics.md))"),
    _function("audit.rank", readers="ingest, queries"),
    _function("audit.time_of", readers="ingest"),
    _function("audit.latency_bucket", readers="ingest"),
    _function("audit.masked", readers="`audit.message`"),
    _function("audit.masked_words", readers="`audit.event`"),
    _function("audit.ensure_partitions", readers="ingest"),
    _table("comms.api_key", writers="`comms keys`, `comms up`", readers="API"),
    _table("comms.schema_version", writers="migrations", readers="migrations, `comms doctor`"),
    _function("comms.uuid_from", *SERVICES, readers="every service"),
    _function("comms.ensure_partitions", *SERVICES, readers="every service's `ensure_partitions`"),
)

BY_NAME = {item.name: item for item in OBJECTS}
