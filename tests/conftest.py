"""Offers the engines of `tests.engines` to every test."""

from tests.engines import (
    broker,
    database_url,
    kafka_bootstrap,
    new_engine,
    postgres_url,
    template_database,
)

__all__ = [
    "broker",
    "database_url",
    "kafka_bootstrap",
    "new_engine",
    "postgres_url",
    "template_database",
]
