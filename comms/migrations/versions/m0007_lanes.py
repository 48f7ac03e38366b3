"""Accepting by priority: lanes of the queue, and limits per tenant."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Nothing yet."""
