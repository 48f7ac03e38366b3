"""Many messages from a file, through `POST /v1/messages/batch`.

`comms send CHANNEL --file` calls `send_rows`. Rows are posted in chunks of limited number and size.
A row that the API rejects is reported with its line, and the others are sent. A chunk that the API
rejects as a whole is halved until the row is found. A chunk without an answer is posted again: the
idempotency keys of the rows make that safe. If the API asks to wait (429 with Retry-After), the
client waits, however often.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from comms.cli.errors import CommandError
from comms.cli.output import entry
from comms.cli.rows import BadRow, Row
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError, problem_text

ROWS = 500
BYTES = 4 * 1024 * 1024
WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before a chunk is posted again
_ROW_ERRORS = frozenset({400, 413, 422})  # another chunk may be accepted
_LISTED_ROWS = 1000

Sleep = Callable[[float], object]


@dataclass(slots=True)
class Tally:
    """How many rows were accepted, had been accepted before, or were rejected."""

    accepted: int = 0
    already_accepted: int = 0
    bad: list[BadRow] = field(default_factory=list)
    bad_count: int = 0

    def add_bad(self, row: BadRow) -> None:
        """Count a rejected row; only the first 1,000 are listed."""
        self.bad_count += 1
        if len(self.bad) < _LISTED_ROWS:
            self.bad.append(row)


def send_rows(
    client: ApiClient,
    rows: Iterable[Row | BadRow],
    *,
    on_bad: Callable[[BadRow], None],
    tally: Tally,
    should_stop: Callable[[], bool] = lambda: False,
    sleep: Sleep = time.sleep,
) -> None:
    """Post every good row and report every bad one.

    Args:
        on_bad: called with each rejected row.
        tally: updated after each answer, so that it is right when an error ends the run.
        should_stop: called after each chunk; True ends the run there.

    Raises:
        ClientError: the API is unreachable, or refuses more than a row.
    """

    def report(row: BadRow) -> None:
        tally.add_bad(row)
        on_bad(row)

    for chunk in chunks(_good_rows(rows, report)):
        for row, result in _post(client, chunk, sleep):
            error = entry(result, "error")
            if error is not None:
                report(BadRow(row.line, problem_text(error) or str(error)))
            elif entry(result, "replayed"):
                tally.already_accepted += 1
            else:
                tally.accepted += 1
        if should_stop():
            return


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group the rows into chunks that fit into one request."""
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


def _good_rows(rows: Iterable[Row | BadRow], report: Callable[[BadRow], None]) -> Iterator[Row]:
    for row in rows:
        if isinstance(row, BadRow):
            report(row)
        else:
            yield row


def _post(client: ApiClient, chunk: list[Row], sleep: Sleep) -> Iterator[tuple[Row, Any]]:
    """Post a chunk and return each row with the API's result."""
    try:
        results = _post_with_retries(client, chunk, sleep)
    except ApiRefusedError as error:
        if error.status not in _ROW_ERRORS:
            raise
        if len(chunk) == 1:
            yield chunk[0], {"error": str(error)}
            return
        middle = len(chunk) // 2
        yield from _post(client, chunk[:middle], sleep)
        yield from _post(client, chunk[middle:], sleep)
        return
    yield from zip(chunk, results, strict=True)


def _post_with_retries(client: ApiClient, chunk: list[Row], sleep: Sleep) -> list[Any]:
    document = {"messages": [row.content for row in chunk]}
    waits = iter(WAITS)
    while True:
        try:
            return _results(client.post("/v1/messages/batch", document).body, len(chunk))
        except (ApiUnreachableError, ApiRefusedError) as error:
            wait = _seconds_to_wait(error, waits)
            if wait is None:
                raise
        sleep(wait)


def _seconds_to_wait(
    error: ApiUnreachableError | ApiRefusedError, waits: Iterator[float]
) -> float | None:
    """Return the seconds until the chunk is posted again, or None to give up.

    A request to wait (429 with Retry-After) is not a failure and does not use up `waits`.
    """
    if isinstance(error, ApiUnreachableError):
        return next(waits, None)
    if error.status == 429 and error.retry_after is not None:
        return error.retry_after
    if not error.is_temporary:
        return None
    wait = next(waits, None)
    return None if wait is None else max(wait, error.retry_after or 0.0)


def _results(body: Any, count: int) -> list[Any]:
    results = entry(body, "results")
    if not isinstance(results, list) or len(results) != count:
        raise CommandError("the API did not answer for every row; send the file again")
    return results
