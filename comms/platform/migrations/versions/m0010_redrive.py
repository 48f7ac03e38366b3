"""Adds resend requests, each kept once, and the withdrawal of deferred messages."""

from alembic import op

revision = "0010"
down_revision = "0009"

SQL = """
-- The wish that an attempt was made for, if it was a person's. The index holds wishes alone, and so
-- costs an ordinary claim nothing.
ALTER TABLE consumers.attempt ADD COLUMN nonce uuid;
CREATE UNIQUE INDEX attempt_nonce ON consumers.attempt (message_id, nonce) WHERE nonce IS NOT NULL;

-- The ordinary retry has the nonce of zeros, a wish one of its own: neither takes the other's
-- place.
ALTER TABLE consumers.deferred
    ADD COLUMN nonce uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    DROP CONSTRAINT deferred_pkey,
    ADD PRIMARY KEY (message_id, nonce);

-- Withdraws a message of which nothing was sent: takes its next attempt, so that no consumer can.
-- The primary key decides who was first, which makes a cancellation and a call exclude each other.
-- Returns how many attempts there were before; null where a call may have been carried out.
DROP FUNCTION consumers.withdraw;
CREATE FUNCTION consumers.withdraw(message_id uuid, tenant text, channel text) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    made integer;
BEGIN
    SELECT coalesce(max(a.attempt), 0) INTO made
    FROM consumers.attempt a WHERE a.message_id = withdraw.message_id;
    IF made > 0 AND (
        -- A call runs, or may: no outcome. Or one was answered, or its answer was lost.
        EXISTS (
            SELECT FROM consumers.attempt a
            LEFT JOIN consumers.outcome o USING (message_id, attempt)
            WHERE a.message_id = withdraw.message_id
              AND (o.status IS NULL OR o.status NOT IN ('sending', 'failed')
                   OR o.reason = 'ambiguous'))
        -- It has ended.
        OR (SELECT o.status FROM consumers.outcome o
            WHERE o.message_id = withdraw.message_id ORDER BY o.attempt DESC LIMIT 1) = 'failed'
    ) THEN
        RETURN NULL;
    END IF;
    INSERT INTO consumers.attempt
        (message_id, attempt, tenant, channel, provider, owner, claimed_at)
    VALUES (withdraw.message_id, made + 1, withdraw.tenant, withdraw.channel, '',
            '00000000-0000-0000-0000-000000000000', clock_timestamp())
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)
    VALUES (withdraw.message_id, made + 1, 'cancelled', 'cancelled', clock_timestamp());
    DELETE FROM consumers.deferred d WHERE d.message_id = withdraw.message_id;
    RETURN made;
END $$;
"""


def upgrade() -> None:
    op.execute(SQL)
