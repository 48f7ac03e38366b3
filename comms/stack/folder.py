"""The data folder of a one-machine stack: who holds it, and the small files in it.

    lock          held by the running `comms up`, so that two never share a folder stack.toml
    where the running stack answers; `comms.platform.settings` reads it in other terminals api-key
    the key that `comms up` prints postgres…, logs/   the engines' own

All but the logs are readable by their owner alone.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from comms.platform import keys
from comms.platform.database import translated
from comms.platform.settings import STACK_FILE
from comms.stack.errors import AlreadyRunningError, StackError

TENANT = "default"
API_KEY_FILE = "api-key"


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the system lets go of it when the process ends.

    Raises:
        AlreadyRunningError: another `comms up` holds it.
        StackError: the folder cannot be made or written to.
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
    """Tell other terminals where the stack answers."""
    # A JSON string is a TOML basic string.
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items()]
    write_private(data_dir / STACK_FILE, "".join(lines))


def remove_stack_file(data_dir: Path) -> None:
    """Say that no stack runs here (any more)."""
    (data_dir / STACK_FILE).unlink(missing_ok=True)


def api_key(data_dir: Path, database_url: str) -> str:
    """The folder's API key, made anew unless the one it holds is still good."""
    path = data_dir / API_KEY_FILE
    known = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    with translated(), psycopg.connect(database_url) as connection:
        if known and _is_good(connection, known):
            return known
        key = keys.create(connection, TENANT, "comms up")
        write_private(path, key + "\n")
    return key


def _is_good(connection: psycopg.Connection, key: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM comms.api_key WHERE hash = %s AND tenant = %s AND revoked_at IS NULL",
        (keys.hash_of(key), TENANT),
    )
    return found.fetchone() is not None


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, and that is never seen half written."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
