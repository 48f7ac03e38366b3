"""Dead letters kept where they can be asked for, and messages sent again by a person's wish."""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Nothing yet."""
