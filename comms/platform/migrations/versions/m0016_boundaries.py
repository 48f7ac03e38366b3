"""Adds the views and functions by which a service reads what belongs to another.

A table belongs to one service. Another service reads only what is defined here, in statements that
name nothing else, so that each service can have a database of its own. `tests/ownership` lists
every object with its owner and its readers.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

PRODUCER = """
-- Every accepted message, without its content. For the queries of the audit service, and for
-- consumers that need a recipient or an expiry of a message of which no event is recorded.
CREATE VIEW producer.accepted_message AS
SELECT m.id, m.tenant, m.channel, m.recipient, m.customer_id, m.workflow, m.priority, m.created_at,
       m.send_at, m.expires_at, m.metadata,
       EXISTS (SELECT FROM producer.scheduled s WHERE s.message_id = m.id) AS is_scheduled
FROM producer.message m;

-- The accepted messages that no consumer has claimed yet, and those that wait for their send_at.
CREATE VIEW producer.queued_message AS
SELECT m.* FROM producer.outbox o JOIN producer.accepted_message m ON m.id = o.message_id;

CREATE VIEW producer.scheduled_message AS
SELECT m.* FROM producer.scheduled s JOIN producer.accepted_message m ON m.id = s.message_id;

-- How many messages of a tenant wait, each count up to at_most.
CREATE FUNCTION producer.tenant_backlog(tenant text, at_most integer)
RETURNS TABLE (pending bigint, oldest timestamptz, scheduled bigint) LANGUAGE sql STABLE AS $$
    SELECT count(*), min(waiting.enqueued_at),
           (SELECT count(*) FROM (SELECT FROM producer.scheduled s
                                  WHERE starts_with(s.key, tenant_backlog.tenant || ':')
                                  LIMIT tenant_backlog.at_most) AS later)
    FROM (SELECT o.enqueued_at FROM producer.outbox o
          WHERE starts_with(o.key, tenant_backlog.tenant || ':')
          LIMIT tenant_backlog.at_most) AS waiting
$$;
"""

CONSUMERS = """
-- What each channel process says about itself.
CREATE VIEW consumers.worker_report AS
SELECT channel, seen_at, in_flight, lag_messages, lag_seconds, providers FROM consumers.worker;

-- Where messages stand in the ledger: the status of the newest outcome, `sending` for a claim
-- without one, null for a message that was never claimed.
CREATE FUNCTION consumers.delivery_status(message_ids uuid[])
RETURNS TABLE (message_id uuid, status text) LANGUAGE sql STABLE AS $$
    SELECT w.id, coalesce(
        (SELECT o.status FROM consumers.outcome o
         WHERE o.message_id = w.id ORDER BY o.attempt DESC LIMIT 1),
        (SELECT 'sending' FROM consumers.attempt a WHERE a.message_id = w.id LIMIT 1))
    FROM unnest(delivery_status.message_ids) AS w (id)
$$;

-- Whether a message waits for another attempt.
CREATE FUNCTION consumers.is_deferred(message_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM consumers.deferred d WHERE d.message_id = is_deferred.message_id)
$$;

-- The channel processes make the ledger's partitions, one of them at a time.
CREATE OR REPLACE FUNCTION consumers.ensure_partitions() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtext('consumers.partitions'));
    SELECT comms.ensure_partitions('consumers.attempt', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
    SELECT comms.ensure_partitions('consumers.outcome', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
    SELECT comms.ensure_partitions('consumers.receipt', interval '1 week',
                                   now() - interval '1 week', now() + interval '8 weeks');
$$;
"""

AUDIT = """
-- How far the audit service has recorded a topic: everything published before `recorded_until`.
-- `active_at` tells when it last recorded something, or had nothing to record.
CREATE VIEW audit.recording_progress AS
SELECT topic, min(caught_up_at) AS recorded_until, max(caught_up_at) AS active_at
FROM audit.consumer_offset GROUP BY topic;

-- Which events are recorded.
CREATE VIEW audit.recorded_event AS
SELECT message_id, id, attempt, status, reason FROM audit.history;

-- What the recorded events of a message add up to, with the recipient as it is: for services, not
-- for analysts (they have audit.message).
CREATE VIEW audit.recorded_message AS
SELECT message_id, tenant, channel, status, reason, attempts, provider, provider_message_id,
       recipient, customer_id, workflow, priority, created_at, updated_at, send_at, expires_at,
       sent_at, finished_at, trouble
FROM audit.state;

-- For each tenant that wrote to a recipient through a provider: its newest message to them.
-- Tenants are few, and each has an index of its messages by recipient.
CREATE FUNCTION audit.newest_messages_to(
    recipient text, channel text, provider text, since timestamptz
) RETURNS TABLE (tenant text, message_id uuid) LANGUAGE sql STABLE AS $$
    SELECT e.tenant, newest.message_id
    FROM audit.evidence e
    CROSS JOIN LATERAL (
        SELECT s.message_id FROM audit.state s
        WHERE s.tenant = e.tenant AND s.recipient = newest_messages_to.recipient
          AND s.channel = e.channel AND s.provider = e.provider
          AND s.created_at > newest_messages_to.since
        ORDER BY s.message_id DESC LIMIT 1
    ) AS newest
    WHERE e.channel = newest_messages_to.channel AND e.provider = newest_messages_to.provider
$$;
"""


def upgrade() -> None:
    for sql in (PRODUCER, CONSUMERS, AUDIT):
        op.execute(sql)
