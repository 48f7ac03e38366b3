"""Resends: a person's wish for another attempt, kept once."""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Nothing yet."""
