"""Adds what each channel process reports about itself, for the readiness shown to operators."""

from alembic import op

revision = "0005"
down_revision = "0004"

SQL = """
CREATE TABLE consumers.worker (
    owner        uuid PRIMARY KEY,
    channel      text NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    seen_at      timestamptz NOT NULL DEFAULT now(),
    in_flight    integer NOT NULL,
    lag_messages bigint NOT NULL,
    lag_seconds  double precision NOT NULL,
    -- [{name, kind, readiness, problem, weight, last_success, last_error}], times in RFC 3339
    providers    jsonb NOT NULL
);
"""


def upgrade() -> None:
    op.execute(SQL)
