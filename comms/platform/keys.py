"""API keys: made, listed and revoked by the CLI, checked on every request.

A key is shown once, when it is made. The database keeps its SHA-256: keys are long random words, so
a slow hash would only slow requests.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from psycopg.rows import class_row

PREFIX = "ck_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as listed; never the key itself."""

    id: UUID
    tenant: str
    name: str
    mode: str
    created_at: datetime
    revoked_at: datetime | None


def hash_of(key: str) -> bytes:
    """What the database keeps of a key."""
    return hashlib.sha256(key.encode()).digest()


def create(connection: psycopg.Connection, tenant: str, name: str, mode: str = "live") -> str:
    """Make a key for `tenant` and return it; this is the only time it is seen."""
    key = PREFIX + secrets.token_urlsafe(24)
    connection.execute(
        "INSERT INTO comms.api_key (tenant, name, mode, hash) VALUES (%s, %s, %s, %s)",
        (tenant, name, mode, hash_of(key)),
    )
    return key


def listed(connection: psycopg.Connection) -> list[ApiKey]:
    """Every key, newest first."""
    cursor = connection.cursor(row_factory=class_row(ApiKey))
    return cursor.execute(
        "SELECT id, tenant, name, mode, created_at, revoked_at"
        " FROM comms.api_key ORDER BY created_at DESC"
    ).fetchall()


def revoke(connection: psycopg.Connection, key_id: UUID) -> bool:
    """Revoke a key; whether it was there and in force."""
    changed = connection.execute(
        "UPDATE comms.api_key SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL",
        (key_id,),
    )
    return changed.rowcount == 1
