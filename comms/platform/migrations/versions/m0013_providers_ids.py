"""Indexes providers' ids, so that a receipt with nothing else finds its message."""

from alembic import op

revision = "0013"
down_revision = "0012"

SQL = """
-- By its hash: half the size of the ids themselves, which are random and long, and less to write
-- for every message that is settled.
CREATE INDEX outcome_provider_message_id ON consumers.outcome USING hash (provider_message_id)
    WHERE provider_message_id IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(SQL)
