"""`--wait`: one message watched until nothing more is to be expected of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from comms.cli.errors import FAILED, STILL_OPEN
from comms.client import ApiClient, ApiRefusedError, ApiUnreachableError
from schemas.vocabulary import Status

POLL_SECONDS = 0.25
# Providers without receipts say nothing after they accepted; the others mostly speak by then.
QUIET_SECONDS = 10.0
_ENDS = frozenset({Status.DELIVERED, Status.FAILED, Status.CANCELLED, Status.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Followed:
    """How it ended: the message as last seen, and the command's exit code."""

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
) -> Followed:
    """Watch a message; `on_event` gets each event once, oldest first.

    It ends with 0 for delivered, or for sent with no receipt in `QUIET_SECONDS`; 1 for failed,
    cancelled and unknown; 3 when `seconds` are over before that.

    Raises:
        ClientError: the API refuses, or is still away when the time is over.
    """
    began = heard = now()
    seen: set[str] = set()
    while True:
        over = now() - began >= seconds
        message = _asked(client, message_id, must=over)
        events = [event for event in (message or {}).get("events", []) if event["id"] not in seen]
        for event in events:
            seen.add(event["id"])
            on_event(event)
        heard = now() if events else heard
        code = _code(message, quiet=now() - heard >= QUIET_SECONDS)
        if message is not None and (code is not None or over):
            return Followed(message, STILL_OPEN if code is None else code)
        sleep(POLL_SECONDS)


def _asked(client: ApiClient, message_id: str, *, must: bool) -> Any:
    """The message, or None where the API cannot say now and need not yet."""
    try:
        return client.get(f"/v1/messages/{message_id}")
    except ApiUnreachableError:
        if must:
            raise
    except ApiRefusedError as error:
        if must or not error.passing:
            raise
    return None


def _code(message: Any, *, quiet: bool) -> int | None:
    """The exit code, once it is known."""
    if message is None:
        return None
    status = message["status"]
    if status in _ENDS:
        return 0 if status == Status.DELIVERED else FAILED
    return 0 if status == Status.SENT and quiet else None
