"""Keeps the encoded message in the ledger, until nothing can need it any more."""

from alembic import op

revision = "0006"
down_revision = "0005"

SQL = """
-- The encoded message, with its first attempt: from the claim on, the queue's row is gone, and a
-- broker and a worker that are lost together must not take the message along.
ALTER TABLE consumers.attempt ADD COLUMN value bytea;

-- Claims are looked through by their time, a few thousand of the newest at once; a row's place in
-- the table follows it, so an index of ranges of blocks serves, and costs an insert very little.
CREATE INDEX attempt_claimed_at ON consumers.attempt USING brin (claimed_at)
    WITH (pages_per_range = 16, autosummarize = on);
CREATE INDEX outcome_occurred_at ON consumers.outcome USING brin (occurred_at)
    WITH (pages_per_range = 16, autosummarize = on);
"""


def upgrade() -> None:
    op.execute(SQL)
