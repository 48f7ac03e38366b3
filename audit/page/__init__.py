"""The web page: it shows the outbox, the channels and every message of a tenant."""

from audit.page.routes import router

__all__ = ["router"]
