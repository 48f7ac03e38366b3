"""Adds the suppression list: recipients who must not be reached."""

from alembic import op

revision = "0008"
down_revision = "0007"

SQL = """
CREATE TABLE consumers.suppression (
    tenant     text NOT NULL,
    channel    text NOT NULL,
    recipient  text NOT NULL,
    reason     text NOT NULL CHECK (reason IN ('opt_out', 'hard_bounce', 'complaint', 'manual')),
    -- The message whose receipt brought it here, if one did.
    message_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, channel, recipient)
);
"""


def upgrade() -> None:
    op.execute(SQL)
