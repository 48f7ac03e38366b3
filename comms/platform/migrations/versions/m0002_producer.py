"""Creates the producer's schema: accepted messages, the outbox, and the relay's positions."""

from alembic import op

revision = "0002"
down_revision = "0001"

SQL = """
CREATE SCHEMA producer;

-- Every message ever accepted. The unique constraint is promise 2: one key, one message, for ever.
CREATE TABLE producer.message (
    id              uuid PRIMARY KEY,
    tenant          text NOT NULL CHECK (tenant <> ''),
    idempotency_key text,
    body_hash       bytea NOT NULL,
    channel         text NOT NULL CHECK (channel IN ('sms', 'email', 'push', 'voice')),
    recipient       text NOT NULL,
    customer_id     text,
    workflow        text,
    priority        text NOT NULL CHECK (priority IN ('high', 'normal', 'bulk')),
    created_at      timestamptz NOT NULL,
    send_at         timestamptz,
    expires_at      timestamptz,
    metadata        jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT message_idempotency_key UNIQUE (tenant, idempotency_key)
);

-- What waits to be published, or was published and is not yet claimed by a consumer. A row is
-- inserted, read once by a cursor over (xid, seq), and deleted once.
CREATE TABLE producer.outbox (
    message_id   uuid NOT NULL,
    topic        text NOT NULL,
    key          text NOT NULL,
    value        bytea NOT NULL,
    -- One relay owns a shard, so that one recipient's messages are published in order.
    shard        smallint NOT NULL GENERATED ALWAYS AS (hashtext(key) & 7) STORED,
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq          bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    enqueued_at  timestamptz NOT NULL DEFAULT now(),
    republish_at timestamptz NOT NULL DEFAULT now() + interval '30 seconds',
    republished  smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (message_id, topic)
);
CREATE INDEX outbox_cursor ON producer.outbox (shard, xid, seq);
-- Rows come and go quickly: vacuum by count, not by share of a table that is mostly empty.
ALTER TABLE producer.outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000
);

-- What waits for its send_at; the relay moves it to the outbox when due.
CREATE TABLE producer.scheduled (
    message_id uuid PRIMARY KEY,
    topic      text NOT NULL,
    key        text NOT NULL,
    value      bytea NOT NULL,
    due_at     timestamptz NOT NULL
);
CREATE INDEX scheduled_due ON producer.scheduled (due_at);

-- How far each shard of the outbox was read.
CREATE TABLE producer.relay_position (
    shard smallint PRIMARY KEY CHECK (shard BETWEEN 0 AND 7),
    xid   xid8 NOT NULL DEFAULT '0',
    seq   bigint NOT NULL DEFAULT 0
);
INSERT INTO producer.relay_position (shard) SELECT generate_series(0, 7);
"""


def upgrade() -> None:
    op.execute(SQL)
