"""Creates the consumers' schema: the ledger of attempts and outcomes, and the retry queue."""

from alembic import op

revision = "0003"
down_revision = "0002"

SQL = """
CREATE SCHEMA consumers;

-- A row is a claim: the attempt's call may be made by its owner, and by nobody else.
CREATE TABLE consumers.attempt (
    message_id uuid NOT NULL,
    attempt    smallint NOT NULL CHECK (attempt > 0),
    tenant     text NOT NULL,
    channel    text NOT NULL,
    provider   text NOT NULL,
    owner      uuid NOT NULL,
    claimed_at timestamptz NOT NULL,
    PRIMARY KEY (message_id, attempt)
) PARTITION BY RANGE (message_id);
CREATE TABLE consumers.attempt_default PARTITION OF consumers.attempt DEFAULT;

-- What an attempt came to. A claim without an outcome is a call that may have been made.
CREATE TABLE consumers.outcome (
    message_id          uuid NOT NULL,
    attempt             smallint NOT NULL,
    status              text NOT NULL,
    reason              text NOT NULL,
    provider_message_id text,
    code                text,
    detail              text,
    response            text,
    occurred_at         timestamptz NOT NULL,
    PRIMARY KEY (message_id, attempt)
) PARTITION BY RANGE (message_id);
CREATE TABLE consumers.outcome_default PARTITION OF consumers.outcome DEFAULT;

-- Messages that stepped aside: to be tried again when due, by any worker of the channel. The worker
-- that takes one leases it, and deletes it when what came of it is announced.
CREATE TABLE consumers.deferred (
    message_id   uuid PRIMARY KEY,
    channel      text NOT NULL,
    value        bytea NOT NULL,
    due_at       timestamptz NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX deferred_due ON consumers.deferred (channel, due_at);

CREATE FUNCTION consumers.ensure_partitions() RETURNS void LANGUAGE sql AS $$
    SELECT comms.ensure_partitions('consumers.attempt', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
    SELECT comms.ensure_partitions('consumers.outcome', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
$$;
SELECT consumers.ensure_partitions();

-- Withdraws a message: takes its first attempt, so that no consumer can. The primary key decides
-- who was first, which makes a cancellation and a call exclude each other.
CREATE FUNCTION consumers.withdraw(message_id uuid, tenant text, channel text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO consumers.attempt
        (message_id, attempt, tenant, channel, provider, owner, claimed_at)
    VALUES (withdraw.message_id, 1, withdraw.tenant, withdraw.channel, '',
            '00000000-0000-0000-0000-000000000000', now())
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO consumers.outcome (message_id, attempt, status, reason, occurred_at)
    VALUES (withdraw.message_id, 1, 'cancelled', 'cancelled', now());
    RETURN true;
END $$;
"""


def upgrade() -> None:
    op.execute(SQL)
