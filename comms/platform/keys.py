"""API keys in the database: the command line manages them, and every request is checked.

`comms keys` and `comms up` create keys; `comms.platform.auth` checks them. A key is shown once,
when it is created. The database stores its SHA-256 digest. Keys are long and random, so a slow hash
would only slow requests down.
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
    """A row of the list of keys. It does not contain the key itself."""

    id: UUID
    tenant: str
    name: str
    mode: str
    created_at: datetime
    revoked_at: datetime | None


def hash_key(key: str) -> bytes:
    """Return the digest of a key, as the database stores it."""
    return hashlib.sha256(key.encode()).digest()


def create(connection: psycopg.Connection, tenant: str, name: str, *, mode: str = "live") -> str:
    """Create a key for a tenant and return it. It cannot be read again later."""
    key = PREFIX + secrets.token_urlsafe(24)
    connection.execute(
        "INSERT INTO comms.api_key (tenant, name, mode, hash) VALUES (%s, %s, %s, %s)",
        (tenant, name, mode, hash_key(key)),
    )
    return key


def list_all(connection: psycopg.Connection) -> list[ApiKey]:
    """Return every key, newest first."""
    cursor = connection.cursor(row_factory=class_row(ApiKey))
    return cursor.execute(
        "SELECT id, tenant, name, mode, created_at, revoked_at"
        " FROM comms.api_key ORDER BY created_at DESC"
    ).fetchall()


def revoke(connection: psycopg.Connection, key_id: UUID) -> bool:
    """Revoke a key.

    Returns:
        Whether the key existed and was not revoked yet.
    """
    cursor = connection.execute(
        "UPDATE comms.api_key SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL",
        (key_id,),
    )
    return cursor.rowcount == 1
