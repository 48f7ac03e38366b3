"""Recipients that must not be reached."""

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Nothing yet."""
