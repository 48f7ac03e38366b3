"""`comms send --wait`: poll one message until its status is final.

`comms.cli.send` calls `follow`, which prints each event through a callback and decides the exit
code.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comms.cli.errors import FAILED, STILL_OPEN
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError
from schemas.vocabulary import Status

POLL_SECONDS = 0.25
# A provider that sends receipts has mostly sent one by then; others never send any.
QUIET_SECONDS = 10.0
_FINAL = frozenset({Status.DELIVERED, Status.FAILED, Status.CANCELLED, Status.UNKNOWN})


@dataclass(frozen=True, slots=True)
class FollowResult:
    """The message as last seen, and the exit code of the command."""

    message: Any
    code: int


def follow(
    client: ApiClient,
    message_id: str,
    *,
    seconds: float,
    on_event: Callable[[Any], None],
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> FollowResult:
    """Poll a message until its status is final.

    Args:
        seconds: how long to wait at most.
        on_event: called with each event once, oldest first.

    Returns:
        Exit code 0 for delivered, or for sent without a receipt within `QUIET_SECONDS`; 1 for
        failed, cancelled and unknown; 3 if the time is over before that.

    Raises:
        ClientError: the API refuses the request, or is unreachable when the time is over.
    """
    started = last_event_at = now()
    seen: set[str] = set()
    while True:
        is_over = now() - started >= seconds
        message = _fetch(client, message_id, must_succeed=is_over)
        events = [event for event in (message or {}).get("events", []) if event["id"] not in seen]
        for event in events:
            seen.add(event["id"])
            on_event(event)
        last_event_at = now() if events else last_event_at
        code = _exit_code(message, is_quiet=now() - last_event_at >= QUIET_SECONDS)
        if message is not None and (code is not None or is_over):
            return FollowResult(message, STILL_OPEN if code is None else code)
        sleep(POLL_SECONDS)


def _fetch(client: ApiClient, message_id: str, *, must_succeed: bool) -> Any:
    """Return the message, or None if the API cannot answer now and there is time left."""
    try:
        return client.get(f"/v1/messages/{message_id}")
    except ApiUnreachableError:
        if must_succeed:
            raise
    except ApiRefusedError as error:
        if must_succeed or not error.is_temporary:
            raise
    return None


def _exit_code(message: Any, *, is_quiet: bool) -> int | None:
    """Return the exit code, or None while the status is not final."""
    if message is None:
        return None
    status = message["status"]
    if status in _FINAL:
        return 0 if status == Status.DELIVERED else FAILED
    return 0 if status == Status.SENT and is_quiet else None
