-- Records one batch of staged events, and computes the state of their messages from all events of
-- these messages. An event that is already recorded changes nothing. A row of audit.state is a
-- function of a set of events, so that the order of arrival cannot change it.
--
-- The history inserted here is not visible to the rest of the statement; `events` adds it to what
-- was recorded before.
WITH fresh AS (
    INSERT INTO audit.history ({columns})
    SELECT {columns} FROM audit_staging
    ON CONFLICT DO NOTHING
    RETURNING {columns}
), touched AS MATERIALIZED (
    SELECT DISTINCT message_id FROM fresh
), before AS MATERIALIZED (
    SELECT state.* FROM touched JOIN audit.state USING (message_id)
), events AS (
    SELECT {columns} FROM fresh
    UNION ALL
    SELECT {columns} FROM touched JOIN audit.history USING (message_id)
), cycles AS (
    -- The attempt of a resend begins a send cycle. Every event of that attempt and of later ones
    -- belongs to it, even if the event of the resend itself is recorded later.
    SELECT *, coalesce(max(attempt) FILTER (WHERE reason = 'resent') OVER (
        PARTITION BY message_id ORDER BY attempt
    ), 0) AS cycle
    FROM events
), ordered AS (
    -- The order that decides, as in schemas/lifecycle.py: what wins comes first.
    SELECT *, row_number() OVER (
        PARTITION BY message_id
        ORDER BY status = 'delivered' DESC, cycle DESC, audit.rank(status) DESC, attempt DESC,
                 occurred_at DESC, id DESC
    ) AS place
    FROM cycles
), folded AS MATERIALIZED (
    SELECT
        message_id,
        (array_agg(tenant ORDER BY place))[1] AS tenant,
        (array_agg(channel ORDER BY place))[1] AS channel,
        (array_agg(status ORDER BY place))[1] AS status,
        (array_agg(reason ORDER BY place))[1] AS reason,
        max(attempt) AS attempts,
        (array_agg(provider ORDER BY place) FILTER (WHERE provider IS NOT NULL))[1] AS provider,
        (array_agg(provider_message_id ORDER BY place)
            FILTER (WHERE provider_message_id IS NOT NULL))[1] AS provider_message_id,
        (array_agg(code ORDER BY place) FILTER (WHERE code IS NOT NULL))[1] AS code,
        (array_agg(detail ORDER BY place) FILTER (WHERE detail IS NOT NULL))[1] AS detail,
        (array_agg(recipient ORDER BY place) FILTER (WHERE recipient IS NOT NULL))[1] AS recipient,
        (array_agg(customer_id ORDER BY place)
            FILTER (WHERE customer_id IS NOT NULL))[1] AS customer_id,
        (array_agg(workflow ORDER BY place) FILTER (WHERE workflow IS NOT NULL))[1] AS workflow,
        (array_agg(priority ORDER BY place) FILTER (WHERE priority IS NOT NULL))[1] AS priority,
        coalesce(
            (array_agg(created_at ORDER BY place) FILTER (WHERE created_at IS NOT NULL))[1],
            audit.time_of(message_id), min(occurred_at)
        ) AS created_at,
        max(occurred_at) AS updated_at,
        (array_agg(send_at ORDER BY place) FILTER (WHERE send_at IS NOT NULL))[1] AS send_at,
        (array_agg(expires_at ORDER BY place)
            FILTER (WHERE expires_at IS NOT NULL))[1] AS expires_at,
        min(occurred_at) FILTER (WHERE status = 'sending') AS first_attempt_at,
        coalesce(
            min(occurred_at) FILTER (WHERE status = 'sent'),
            min(occurred_at) FILTER (WHERE status = 'delivered')
        ) AS sent_at,
        CASE WHEN (array_agg(status ORDER BY place))[1] IN ('delivered', 'failed', 'cancelled')
             THEN (array_agg(occurred_at ORDER BY place))[1] END AS finished_at,
        coalesce(
            (array_agg(metadata ORDER BY place) FILTER (WHERE metadata <> '{{}}'))[1], '{{}}'
        ) AS metadata,
        (array_agg(traceparent ORDER BY place)
            FILTER (WHERE traceparent IS NOT NULL))[1] AS traceparent,
        (array_agg(mode ORDER BY place) FILTER (WHERE mode IS NOT NULL))[1] AS mode
    FROM ordered
    GROUP BY message_id
), upserted AS (
    INSERT INTO audit.state ({state_columns})
    SELECT {state_columns} FROM folded
    ON CONFLICT (message_id) DO UPDATE SET ({state_columns}) = ROW ({excluded_state_columns})
), changes AS (
    SELECT tenant, date_trunc('hour', created_at, 'UTC') AS hour, channel, status, reason,
           coalesce(provider, '') AS provider, coalesce(priority, '') AS priority,
           coalesce(workflow, '') AS workflow,
           audit.latency_bucket(created_at, send_at, sent_at) AS bucket, sum(n) AS count
    FROM (
        SELECT tenant, created_at, send_at, sent_at, channel, status, reason, provider, priority,
               workflow, 1 AS n
        FROM folded
        UNION ALL
        SELECT tenant, created_at, send_at, sent_at, channel, status, reason, provider, priority,
               workflow, -1 AS n
        FROM before
    ) AS difference
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    HAVING sum(n) <> 0
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), counted AS (
    INSERT INTO audit.rollup
        (tenant, hour, channel, status, reason, provider, priority, workflow, bucket, count)
    SELECT * FROM changes
    ON CONFLICT (tenant, hour, channel, status, reason, provider, priority, workflow, bucket)
    DO UPDATE SET count = rollup.count + excluded.count
), successes AS (
    SELECT tenant, channel, provider, max(occurred_at) AS last_success_at
    FROM fresh
    WHERE provider IS NOT NULL AND status IN ('sent', 'delivered')
      AND reason NOT IN ('resolved', 'no_receipt')
      -- A test message is no evidence that live ones arrive. A simulated provider has nothing else.
      AND (coalesce(mode, 'live') <> 'test')
    GROUP BY tenant, channel, provider
), errors AS (
    SELECT DISTINCT ON (tenant, channel, provider)
           tenant, channel, provider, occurred_at AS last_error_at, id AS last_error_id,
           jsonb_build_object('message_id', message_id, 'reason', reason, 'code', code,
                              'detail', detail) AS last_error
    FROM fresh
    WHERE provider IS NOT NULL -- silence is no answer of a provider
      AND (status IN ('failed', 'unknown') AND reason NOT IN ('resolved', 'no_receipt')
           OR status = 'sending' AND reason NOT IN ('claimed', 'resent'))
    ORDER BY tenant, channel, provider, occurred_at DESC, id DESC
), witnessed AS (
    INSERT INTO audit.evidence AS known
        (tenant, channel, provider, last_success_at, last_error_at, last_error_id, last_error)
    SELECT tenant, channel, provider, last_success_at, last_error_at, last_error_id, last_error
    FROM successes FULL JOIN errors USING (tenant, channel, provider)
    ORDER BY tenant, channel, provider
    ON CONFLICT (tenant, channel, provider) DO UPDATE SET
        last_success_at = greatest(known.last_success_at, excluded.last_success_at),
        (last_error_at, last_error_id, last_error) = (
            SELECT at, id, error
            FROM (VALUES
                (known.last_error_at, known.last_error_id, known.last_error),
                (excluded.last_error_at, excluded.last_error_id, excluded.last_error)
            ) AS errors (at, id, error)
            ORDER BY at DESC NULLS LAST, id DESC NULLS LAST
            LIMIT 1
        )
)
SELECT count(*) FROM fresh
