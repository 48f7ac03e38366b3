"""Many messages from a file, through `POST /v1/messages/batch`.

`comms send CHANNEL --file` calls `send_rows`. Rows go in chunks bounded by number and size. A row
the API refuses is named by its line and stops nothing else; a chunk it refuses as a whole is halved
until the row is found. A chunk that got no answer is posted again: the rows' idempotency keys make
that harmless. Where the API asks to wait (429 with Retry-After) it is waited, however often.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from comms.cli.errors import CommandError
from comms.cli.output import entry
from comms.cli.rows import BadRow, Row
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError, sentence_of

ROWS = 500
BYTES = 4 * 1024 * 1024
WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before a chunk is posted again
_ABOUT_ROWS = frozenset({400, 413, 422})  # refusals that another chunk may not meet

Sleep = Callable[[float], None]


@dataclass(slots=True)
class Tally:
    """What became of a file's rows."""

    accepted: int = 0
    known: int = 0
    bad: list[BadRow] = field(default_factory=list)
    bad_count: int = 0

    def add_bad(self, row: BadRow) -> None:
        """Count a bad row; the first thousand are kept by line."""
        self.bad_count += 1
        if len(self.bad) < 1000:
            self.bad.append(row)


def send_rows(
    client: ApiClient,
    rows: Iterable[Row | BadRow],
    *,
    on_bad: Callable[[BadRow], None],
    tally: Tally,
    sleep: Sleep = time.sleep,
) -> None:
    """Post every good row and report every bad one.

    Args:
        on_bad: told of each bad row as it is found.
        tally: counts as the rows go, so that it holds what was done when an error ends it.

    Raises:
        ClientError: the API is away, or refuses more than a row.
    """

    def bad(row: BadRow) -> None:
        tally.add_bad(row)
        on_bad(row)

    for chunk in chunks(_good(rows, bad)):
        for row, result in _posted(client, chunk, sleep):
            error = entry(result, "error")
            if error is not None:
                bad(BadRow(row.line, sentence_of(error) or str(error)))
            elif entry(result, "replayed"):
                tally.known += 1
            else:
                tally.accepted += 1


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in groups that one request may carry."""
    group: list[Row] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row.content))
        if group and (len(group) >= ROWS or size + length > BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += length
    if group:
        yield group


def _good(rows: Iterable[Row | BadRow], bad: Callable[[BadRow], None]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            bad(row)
        else:
            yield row


def _posted(client: ApiClient, chunk: list[Row], sleep: Sleep) -> Iterator[tuple[Row, Any]]:
    """Each row with the API's result."""
    try:
        results = _answered(client, chunk, sleep)
    except ApiRefusedError as error:
        if error.status not in _ABOUT_ROWS:
            raise
        if len(chunk) == 1:
            yield chunk[0], {"error": str(error)}
            return
        middle = len(chunk) // 2
        yield from _posted(client, chunk[:middle], sleep)
        yield from _posted(client, chunk[middle:], sleep)
        return
    yield from zip(chunk, results, strict=True)


def _answered(client: ApiClient, chunk: list[Row], sleep: Sleep) -> list[Any]:
    document = {"messages": [row.content for row in chunk]}
    waits = iter(WAITS)
    while True:
        try:
            return _results(client.post("/v1/messages/batch", document).body, len(chunk))
        except (ApiUnreachableError, ApiRefusedError) as error:
            wait = _wait(error, waits)
            if wait is None:
                raise
        sleep(wait)


def _wait(error: ApiUnreachableError | ApiRefusedError, waits: Iterator[float]) -> float | None:
    """Seconds until the chunk is posted again; None when it is not. To be asked to wait is no
    failure: that goes on for as long as the file does."""
    if isinstance(error, ApiUnreachableError):
        return next(waits, None)
    if error.status == 429 and error.retry_after is not None:
        return error.retry_after
    if not error.passing:
        return None
    wait = next(waits, None)
    return None if wait is None else max(wait, error.retry_after or 0.0)


def _results(body: Any, count: int) -> list[Any]:
    results = entry(body, "results")
    if not isinstance(results, list) or len(results) != count:
        raise CommandError("the API did not answer for every row; send the file again")
    return results
