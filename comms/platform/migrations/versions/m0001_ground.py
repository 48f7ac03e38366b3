"""Creates what every schema uses: API keys, and partitions by the time inside a UUIDv7."""

from alembic import op

revision = "0001"
down_revision = None

SQL = """
CREATE SCHEMA IF NOT EXISTS comms;

-- Callers of the API. The key itself is never kept, only its SHA-256.
CREATE TABLE comms.api_key (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant      text NOT NULL CHECK (tenant <> ''),
    name        text NOT NULL,
    mode        text NOT NULL DEFAULT 'live' CHECK (mode IN ('live', 'test')),
    hash        bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);

-- The smallest UUIDv7 of an instant: a bound for range partitions.
CREATE FUNCTION comms.uuid_from(instant timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0')
            || repeat('0', 20))::uuid
$$;

-- Makes the partitions of `parent` from `since` until `until`, each `step` long, where missing.
-- Rows outside any of them (ids that carry no plausible time) go to the default partition.
CREATE FUNCTION comms.ensure_partitions(
    parent regclass, step interval, since timestamptz, until timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    unit  text := CASE WHEN step >= interval '1 month' THEN 'month' ELSE 'week' END;
    start timestamptz := date_trunc(unit, since, 'UTC');
    name  text;
BEGIN
    WHILE start < until LOOP
        name := parent::text || '_' || to_char(start AT TIME ZONE 'UTC', 'YYYYMMDD');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)', name, parent,
                comms.uuid_from(start), comms.uuid_from(date_trunc(unit, start + step, 'UTC')));
        END IF;
        start := date_trunc(unit, start + step, 'UTC');
    END LOOP;
END $$;
"""


def upgrade() -> None:
    op.execute(SQL)
