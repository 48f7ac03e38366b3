"""Adds the rate limits of tenants, which the API's processes share."""

from alembic import op

revision = "0011"
down_revision = "0010"

SQL = """
-- What is left of a tenant's rate limit; processes take leases of it. Less than nothing is owed.
CREATE TABLE producer.allowance (
    tenant text PRIMARY KEY,
    tokens double precision NOT NULL,
    at     timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 60);
"""


def upgrade() -> None:
    op.execute(SQL)
