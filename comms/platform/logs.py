"""The logging of a process: an event name and ids as fields, and a sentence where one helps.

Each process calls `configure` once, at its start. Lines are coloured on a terminal and JSON
elsewhere. Ids may be logged. Recipients, contents and secrets are never passed to a logger.
"""

import logging
import sys

import structlog


def configure(service: str, *, level: str = "INFO") -> None:
    """Configure the logging of this process, to standard error.

    Args:
        service: the name of the service; it is in every line.
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
    """
    level_number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level_number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s %(message)s")
