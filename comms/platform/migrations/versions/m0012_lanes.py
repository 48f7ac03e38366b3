"""Adds lanes: high-priority and bulk messages in queues of their own."""

from alembic import op

revision = "0012"
down_revision = "0011"

SQL = """
-- Shards 0 to 7 are the normal lane's, 8 to 15 the high one's, 16 to 23 the bulk one's: what waits
-- in one lane is not read behind what waits in another.
ALTER TABLE producer.outbox DROP COLUMN shard;
ALTER TABLE producer.outbox ADD COLUMN shard smallint NOT NULL GENERATED ALWAYS AS (
    (hashtext(key) & 7) + CASE WHEN topic LIKE '%.high' THEN 8 WHEN topic LIKE '%.bulk' THEN 16
                               ELSE 0 END) STORED;
CREATE INDEX outbox_cursor ON producer.outbox (shard, xid, seq);

-- What waits for the same recipient in another lane; see producer/ordering.py.
CREATE INDEX outbox_key ON producer.outbox (key);

ALTER TABLE producer.relay_position DROP CONSTRAINT relay_position_shard_check;
ALTER TABLE producer.relay_position ADD CHECK (shard BETWEEN 0 AND 23);
-- Which log the shard was published to: the ids of its topics, see producer/topic_identity.py.
ALTER TABLE producer.relay_position ADD COLUMN log text;
INSERT INTO producer.relay_position (shard) SELECT generate_series(8, 23);
"""


def upgrade() -> None:
    op.execute(SQL)
