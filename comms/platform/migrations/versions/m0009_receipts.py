"""Keeps receipts in the ledger, until the audit service has them."""

from alembic import op

revision = "0009"
down_revision = "0008"

SQL = """
-- The encoded status event of a receipt: a provider that was answered does not say it again, and a
-- broker that loses it must not have been the only one to know.
CREATE TABLE consumers.receipt (
    message_id uuid NOT NULL,
    event_id   uuid NOT NULL,
    channel    text NOT NULL,
    value      bytea NOT NULL,
    taken_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (message_id, event_id)
) PARTITION BY RANGE (message_id);
CREATE TABLE consumers.receipt_default PARTITION OF consumers.receipt DEFAULT;
CREATE INDEX receipt_taken_at ON consumers.receipt USING brin (taken_at)
    WITH (pages_per_range = 16, autosummarize = on);

CREATE OR REPLACE FUNCTION consumers.ensure_partitions() RETURNS void LANGUAGE sql AS $$
    SELECT comms.ensure_partitions('consumers.attempt', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
    SELECT comms.ensure_partitions('consumers.outcome', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
    SELECT comms.ensure_partitions('consumers.receipt', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
$$;
SELECT consumers.ensure_partitions();
"""


def upgrade() -> None:
    op.execute(SQL)
