"""The Communications page: the outbox, the channels and every message, for people."""

from audit.page.routes import router

__all__ = ["router"]
