"""Adds what all processes of a channel share about its providers, for routing."""

from alembic import op

revision = "0007"
down_revision = "0006"

SQL = """
-- A provider's present share of its channel, and whether its breaker is open.
CREATE TABLE consumers.route (
    channel      text NOT NULL,
    provider     text NOT NULL,
    weight       integer NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    open_until   timestamptz,
    rest_seconds double precision NOT NULL DEFAULT 0,
    problem      text,
    PRIMARY KEY (channel, provider)
);

-- Calls by when they ended, ten seconds a slot, summed over all processes.
CREATE TABLE consumers.route_slot (
    channel  text NOT NULL,
    provider text NOT NULL,
    slot     timestamptz NOT NULL,
    calls    integer NOT NULL,
    errors   integer NOT NULL,
    slow     integer NOT NULL,
    PRIMARY KEY (channel, provider, slot)
);

-- What is left of a provider's rate limit; processes take leases of it.
CREATE TABLE consumers.allowance (
    channel  text NOT NULL,
    provider text NOT NULL,
    tokens   double precision NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, provider)
);
"""


def upgrade() -> None:
    op.execute(SQL)
