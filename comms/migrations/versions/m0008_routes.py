"""Routing: what every process of a channel shares about its providers."""

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Nothing yet."""
