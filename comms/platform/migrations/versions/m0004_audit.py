"""Creates the audit schema: every event, the state of each message, and the counts by hour."""

from alembic import op

revision = "0004"
down_revision = "0003"

SQL = r"""
CREATE SCHEMA audit;

-- The order of statuses, as in schemas/lifecycle.py: of two facts the higher one wins.
CREATE FUNCTION audit.rank(status text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE status
        WHEN 'pending' THEN 10 WHEN 'sending' THEN 20 WHEN 'unknown' THEN 30 WHEN 'sent' THEN 40
        WHEN 'cancelled' THEN 50 WHEN 'failed' THEN 60 WHEN 'delivered' THEN 70
    END::smallint
$$;

-- The instant inside a UUIDv7; null where there is none.
CREATE FUNCTION audit.time_of(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN substr(id::text, 15, 1) = '7' AND id::text < 'e5' THEN to_timestamp(
        ('x' || substr(id::text, 1, 8) || substr(id::text, 10, 4))::bit(48)::bigint / 1000.0)
    END
$$;

-- How long a message took from when it could go to when a provider had it, as the number of a
-- bucket: b holds (2^((b-1)/4), 2^(b/4)] milliseconds, -1 what is not sent.
CREATE FUNCTION audit.latency_bucket(
    created_at timestamptz, send_at timestamptz, sent_at timestamptz
) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN sent_at IS NULL THEN -1 ELSE least(160, ceil(4 * ln(greatest(1.0, 1000 *
        extract(epoch FROM sent_at - greatest(created_at, send_at))::float8)) / ln(2.0::float8)))
    END::smallint
$$;

-- Enough of a recipient to recognise it, too little to reach anybody.
CREATE FUNCTION audit.masked(recipient text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN recipient LIKE '_%@%'
            THEN left(recipient, 1) || '***@' || split_part(recipient, '@', 2)
        WHEN recipient LIKE '+%' THEN left(recipient, 3) || '***' || right(recipient, 2)
        ELSE left(recipient, 4) || '***'
    END
$$;

-- The same for a provider's sentence, which may quote a recipient.
CREATE FUNCTION audit.masked_words(words text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_replace(regexp_replace(words, '[^\s<>@"'']+@', '***@', 'g'),
                          '\+?\d[\d ()-]{5,}\d', '***', 'g')
$$;

CREATE SEQUENCE audit.history_seq;

-- Every event ever told, once: the truth that everything below is computed from.
CREATE TABLE audit.history (
    message_id          uuid NOT NULL,
    id                  uuid NOT NULL,
    tenant              text NOT NULL,
    channel             text NOT NULL,
    status              text NOT NULL CHECK (audit.rank(status) IS NOT NULL),
    reason              text NOT NULL,
    attempt             integer NOT NULL,
    provider            text,
    provider_message_id text,
    code                text,
    detail              text,
    response            text,
    occurred_at         timestamptz NOT NULL,
    recipient           text,
    customer_id         text,
    workflow            text,
    priority            text,
    created_at          timestamptz,
    send_at             timestamptz,
    expires_at          timestamptz,
    metadata            jsonb NOT NULL DEFAULT '{}',
    traceparent         text,
    recorded_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Followers read by (xid, seq) below the oldest transaction still open, and so miss nothing.
    xid                 xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq                 bigint NOT NULL DEFAULT nextval('audit.history_seq'),
    PRIMARY KEY (message_id, id)
) PARTITION BY RANGE (message_id);
CREATE TABLE audit.history_default PARTITION OF audit.history DEFAULT;
CREATE INDEX history_changes ON audit.history (xid, seq);

-- What the events of a message add up to; see audit/merge.sql.
CREATE TABLE audit.state (
    message_id          uuid PRIMARY KEY,
    tenant              text NOT NULL,
    channel             text NOT NULL,
    status              text NOT NULL,
    reason              text NOT NULL,
    attempts            integer NOT NULL,
    provider            text,
    provider_message_id text,
    code                text,
    detail              text,
    recipient           text,
    customer_id         text,
    workflow            text,
    priority            text,
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    send_at             timestamptz,
    expires_at          timestamptz,
    first_attempt_at    timestamptz,
    sent_at             timestamptz,
    finished_at         timestamptz,
    metadata            jsonb NOT NULL,
    traceparent         text,
    -- An index whose predicate named `status` would be touched by every change of it; this is not.
    trouble             boolean NOT NULL
                        GENERATED ALWAYS AS (status IN ('failed', 'unknown')) STORED
) PARTITION BY RANGE (message_id);
CREATE TABLE audit.state_default PARTITION OF audit.state DEFAULT;
CREATE INDEX state_newest ON audit.state (tenant, message_id DESC);
CREATE INDEX state_customer ON audit.state (tenant, customer_id, message_id DESC)
    WHERE customer_id IS NOT NULL;
CREATE INDEX state_recipient ON audit.state (tenant, recipient, message_id DESC);
CREATE INDEX state_trouble ON audit.state (tenant, message_id DESC) WHERE trouble;

-- How many messages created in an hour stand where, now. '' is an absent word.
CREATE TABLE audit.rollup (
    tenant   text NOT NULL,
    hour     timestamptz NOT NULL,
    channel  text NOT NULL,
    status   text NOT NULL,
    reason   text NOT NULL,
    provider text NOT NULL,
    priority text NOT NULL,
    workflow text NOT NULL,
    bucket   smallint NOT NULL,
    count    bigint NOT NULL,
    PRIMARY KEY (tenant, hour, channel, status, reason, provider, priority, workflow, bucket)
) WITH (fillfactor = 60);

-- When each provider last took something, and the last thing it refused, in its own words.
CREATE TABLE audit.evidence (
    tenant          text NOT NULL,
    channel         text NOT NULL,
    provider        text NOT NULL,
    last_success_at timestamptz,
    last_error_at   timestamptz,
    last_error_id   uuid,
    last_error      jsonb,
    PRIMARY KEY (tenant, channel, provider)
) WITH (fillfactor = 60);

-- Where to read on in each partition of the topic; written with what was read.
CREATE TABLE audit.consumer_offset (
    topic        text NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint NOT NULL,
    -- Checksum of the record before next_offset: a log in which it differs is not the log we read.
    witness      bigint NOT NULL,
    -- Everything published to the partition before this is recorded.
    caught_up_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 60);

CREATE FUNCTION audit.ensure_partitions() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtext('audit.partitions'));
    SELECT comms.ensure_partitions('audit.history', interval '1 month',
                                   now() - interval '1 month', now() + interval '3 months');
    SELECT comms.ensure_partitions('audit.state', interval '1 month',
                                   now() - interval '1 month', now() + interval '3 months');
$$;
SELECT audit.ensure_partitions();

-- For analysts: stable names, documented in docs/analytics.md.
CREATE VIEW audit.message AS
SELECT message_id AS id, tenant, channel, status, reason, provider, provider_message_id, attempts,
       created_at, first_attempt_at, sent_at, finished_at, customer_id, workflow,
       audit.masked(recipient) AS recipient
FROM audit.state;

CREATE VIEW audit.event AS
SELECT id, message_id, tenant, channel, status, reason, attempt, provider, provider_message_id,
       code, audit.masked_words(detail) AS detail, occurred_at, recorded_at
FROM audit.history;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'comms_analyst') THEN
        CREATE ROLE comms_analyst NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'may not create role comms_analyst; docs/analytics.md says how to';
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database of this server was migrated at the same moment
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'comms_analyst') THEN
        GRANT USAGE ON SCHEMA audit TO comms_analyst;
        GRANT SELECT ON audit.message, audit.event TO comms_analyst;
    END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(SQL)
