"""The data folder of a one-machine stack: its lock, and the small files in it.

    lock        locked by the running `comms up`, so that two never share a folder
    stack.toml  where the running stack answers; `comms.platform.settings` reads it in other
                terminals
    api-key     the key that `comms up` prints
    postgres…   the database and its password, see `comms.stack.postgres`
    logs/       the log files of the engines and the services

`comms.stack.up` uses all of it. Only the owner can read anything but the logs.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from comms.platform import keys
from comms.platform.database import translate_errors
from comms.platform.settings import STACK_FILE
from comms.stack.errors import AlreadyRunningError, StackError

TENANT = "default"
API_KEY_FILE = "api-key"


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Lock the folder for this process; the system releases the lock when the process ends.

    Raises:
        AlreadyRunningError: another `comms up` holds the lock.
        StackError: the folder cannot be created or written to.
    """
    descriptor = _open_lock(data_dir)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(
                f"`comms up` already runs on {data_dir}; stop it, or choose another --data-dir"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _open_lock(data_dir: Path) -> int:
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StackError(
            f"the data folder {data_dir} cannot be used: {error.strerror}; "
            "choose another with --data-dir"
        ) from error


def write_stack_file(data_dir: Path, values: Mapping[str, str]) -> None:
    """Record where the stack answers, for commands in other terminals."""
    # A JSON string is a TOML basic string.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    write_private(data_dir / STACK_FILE, "".join(lines))


def remove_stack_file(data_dir: Path) -> None:
    """Record that no stack runs on the folder."""
    (data_dir / STACK_FILE).unlink(missing_ok=True)


def ensure_api_key(data_dir: Path, database_url: str) -> str:
    """Return the folder's API key; create one if there is none or it was revoked."""
    path = data_dir / API_KEY_FILE
    stored = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    with translate_errors(), psycopg.connect(database_url) as connection:
        if stored and _is_valid(connection, stored):
            return stored
        key = keys.create(connection, TENANT, "comms up")
        write_private(path, key + "\n")
    return key


def _is_valid(connection: psycopg.Connection, key: str) -> bool:
    cursor = connection.execute(
        "SELECT 1 FROM comms.api_key WHERE hash = %s AND tenant = %s AND revoked_at IS NULL",
        (keys.hash_key(key), TENANT),
    )
    return cursor.fetchone() is not None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it appears at once with its whole content."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
