"""Request bodies and helpers for the tests of the HTTP API."""

import re

import httpx2 as httpx
import psycopg
from psycopg import sql

SMS = {"channel": "sms", "to": "+12025550100", "body": "hello"}
EMAIL = {"channel": "email", "to": "Ann <ann@example.com>", "subject": "Hi", "text": "hello"}
PUSH = {"channel": "push", "to": "simulator:delivered", "title": "Hi", "body": "hello"}
VOICE = {"channel": "voice", "to": "+12025550100", "text": "hello"}


async def post(client: httpx.AsyncClient, body: object, **headers: str) -> httpx.Response:
    """Post one message. A header name is written with underscores."""
    return await client.post(
        "/v1/messages",
        json=body,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def wrong_fields(response: httpx.Response) -> set[str]:
    """Return the fields that a problem document names, none of them in the words of pydantic."""
    assert response.status_code == 422, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    errors = response.json()["errors"]
    for error in errors:
        assert not re.search("Input|Value error|Field|valid ", error["problem"]), error
    return {error["field"] for error in errors}


def count(database: psycopg.Connection, table: str) -> int:
    """Return the number of rows of one of the producer's tables."""
    query = sql.SQL("SELECT count(*) FROM producer.{}").format(sql.Identifier(table))
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def stored(database: psycopg.Connection, topic: str) -> bytes:
    """Return the encoded record that waits in the outbox for a topic."""
    row = database.execute(
        "SELECT value FROM producer.outbox WHERE topic = %s", (topic,)
    ).fetchone()
    assert row is not None
    return bytes(row[0])
