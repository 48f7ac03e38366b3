"""What tenants may ask of us, and which messages no list holds back."""

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Nothing yet."""
