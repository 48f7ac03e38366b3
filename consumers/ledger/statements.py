"""The ledger's SQL, one statement for each thing that `consumers.ledger.store` does.

Times that several processes compare are the database's. Claims and outcomes are only ever inserted.
"""

# One statement claims attempts, looks up the suppression list, and records that the call before is
# in doubt where an attempt repeats it. So the doubt is on record before a second call can be made.
# All recipients of a message that may reach one without the others are looked up: the result has a
# row for each that is on the list.
CLAIM = """
WITH requested AS (
    SELECT * FROM unnest(%b::uuid[], %b::smallint[], %b::text[], %b::text[], %b::bytea[],
                         %b::text[], %b::boolean[], %b::uuid[])
        AS r (id, attempt, tenant, provider, value, recipient, repeats_doubt, nonce)
), claimed AS (
    INSERT INTO consumers.attempt
        (message_id, attempt, tenant, channel, provider, owner, claimed_at, value, nonce)
    SELECT id, attempt, tenant, %s, provider, %s, clock_timestamp(), value, nonce FROM requested
    ON CONFLICT DO NOTHING
    RETURNING message_id
), doubt AS (
    INSERT INTO consumers.outcome (message_id, attempt, status, reason, detail, occurred_at)
    SELECT id, attempt - 1, 'sending', 'ambiguous', 'its worker was lost in the call',
           clock_timestamp()
    FROM claimed JOIN requested ON requested.id = claimed.message_id WHERE repeats_doubt
    ON CONFLICT DO NOTHING
), recipients AS (
    SELECT id, tenant, recipient FROM requested
    UNION ALL
    SELECT other.id, requested.tenant, other.recipient
    FROM unnest(%b::uuid[], %b::text[]) AS other (id, recipient) JOIN requested USING (id)
)
SELECT claimed.message_id, s.recipient, s.reason, s.created_at
FROM claimed JOIN recipients ON recipients.id = claimed.message_id
LEFT JOIN consumers.suppression s
    ON s.tenant = recipients.tenant AND s.channel = %s AND s.recipient = recipients.recipient
"""

# The newest attempt of each message, with the attempt that its send cycle began with. Before that
# row comes the attempt that was made for the delivery's resend request, if there is one.
LOOK_UP = """
SELECT a.message_id, a.attempt, a.provider,
    extract(epoch FROM clock_timestamp() - a.claimed_at)::float8,
    o.status, o.reason, o.occurred_at, o.provider_message_id, o.code, o.detail, o.response,
    coalesce(a.cycle_start, 1),
    (SELECT count(*) FROM consumers.outcome x WHERE x.message_id = a.message_id
     AND x.attempt >= coalesce(a.cycle_start, 1) AND x.reason = 'account_fault'),
    a.nonce = r.nonce,
    (SELECT first.provider
     FROM consumers.outcome doubt JOIN consumers.attempt first USING (message_id, attempt)
     WHERE doubt.message_id = a.message_id AND doubt.attempt >= coalesce(a.cycle_start, 1)
       AND doubt.status = 'sending' AND doubt.reason = 'ambiguous'
     ORDER BY doubt.attempt LIMIT 1)
FROM unnest(%b::uuid[], %b::uuid[]) AS r (id, nonce)
CROSS JOIN LATERAL (
    SELECT *, max(attempt) FILTER (WHERE nonce IS NOT NULL) OVER () AS cycle_start,
           max(attempt) OVER () AS newest
    FROM consumers.attempt WHERE message_id = r.id
) a
LEFT JOIN consumers.outcome o USING (message_id, attempt)
WHERE a.attempt = a.newest OR a.nonce = r.nonce
ORDER BY a.message_id, a.attempt
"""

SETTLE = """
INSERT INTO consumers.outcome
    (message_id, attempt, status, reason, provider_message_id, code, detail, response, occurred_at)
SELECT * FROM unnest(%b::uuid[], %b::smallint[], %b::text[], %b::text[], %b::text[], %b::text[],
                     %b::text[], %b::text[], %b::timestamptz[])
ON CONFLICT DO NOTHING
"""

SUPPRESS = """
INSERT INTO consumers.suppression (channel, tenant, recipient, reason, message_id)
SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::text[], %b::uuid[])
ON CONFLICT DO NOTHING
"""

DEFER = """
INSERT INTO consumers.deferred (message_id, nonce, channel, value, due_at)
SELECT id, nonce, %s, value, clock_timestamp() + make_interval(secs => wait)
FROM unnest(%b::uuid[], %b::uuid[], %b::bytea[], %b::float8[]) AS d (id, nonce, value, wait)
ON CONFLICT (message_id, nonce) DO UPDATE SET due_at = excluded.due_at, leased_until = '-infinity'
"""

LEASE = """
UPDATE consumers.deferred SET leased_until = clock_timestamp() + make_interval(secs => %s)
WHERE (message_id, nonce) IN (
    SELECT message_id, nonce FROM consumers.deferred
    WHERE channel = %s AND due_at <= clock_timestamp() AND leased_until < clock_timestamp()
    ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING message_id, nonce, leased_until, value
"""

FINISH = """
DELETE FROM consumers.deferred d
USING unnest(%b::uuid[], %b::uuid[], %b::timestamptz[]) AS done (id, nonce, until)
WHERE d.message_id = done.id AND d.nonce = done.nonce AND d.leased_until = done.until
"""

# Claims without an outcome, older than any call can last, whose message is not queued. Those of a
# running process are left to it for longer: it may only be waiting for the database.
REQUEUE_ABANDONED = """
INSERT INTO consumers.deferred (message_id, channel, value, due_at)
SELECT a.message_id, a.channel, first.value, clock_timestamp()
FROM consumers.attempt a
JOIN consumers.attempt first ON first.message_id = a.message_id AND first.attempt = 1
WHERE a.channel = %s AND first.value IS NOT NULL
  AND a.claimed_at BETWEEN statement_timestamp() - make_interval(secs => %s)
                       AND statement_timestamp() - make_interval(secs => %s)
  AND (a.claimed_at < statement_timestamp() - make_interval(secs => %s)
       OR NOT EXISTS (SELECT FROM consumers.worker w
                      WHERE w.owner = a.owner AND w.seen_at > clock_timestamp() - interval '1 min'))
  AND NOT EXISTS (SELECT FROM consumers.attempt later
                  WHERE later.message_id = a.message_id AND later.attempt > a.attempt)
  AND NOT EXISTS (SELECT FROM consumers.outcome o
                  WHERE o.message_id = a.message_id AND o.attempt = a.attempt)
ON CONFLICT DO NOTHING
"""
