"""The ledger keeps what it is to send, until nothing can need it any more."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Nothing yet."""
