"""Logs for two readers: an event name and ids as fields for machines, a line for people.

Each process calls `configure` once. On a terminal lines are coloured, elsewhere JSON. Recipients,
bodies and secrets are never given to a logger; ids are.
"""

import logging
import sys

import structlog


def configure(service: str, *, level: str = "INFO") -> None:
    """Set up this process's logging to standard error.

    Args:
        service: bound to every line; level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    """
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    pretty = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s %(message)s")
