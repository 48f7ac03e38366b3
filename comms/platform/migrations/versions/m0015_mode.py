"""Records the mode of a message: live, for a provider's test mode, or simulated."""

from alembic import op

revision = "0015"
down_revision = "0013"

SQL = """
-- Null before this version, when every message was live.
ALTER TABLE audit.history ADD COLUMN mode text;
ALTER TABLE audit.state ADD COLUMN mode text;

CREATE OR REPLACE VIEW audit.message AS
SELECT message_id AS id, tenant, channel, status, reason, provider, provider_message_id, attempts,
       created_at, first_attempt_at, sent_at, finished_at, customer_id, workflow,
       audit.masked(recipient) AS recipient, coalesce(mode, 'live') AS mode
FROM audit.state;
"""


def upgrade() -> None:
    op.execute(SQL)
