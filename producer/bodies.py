"""Bodies of requests: read up to a limit, and JSON or a clear refusal."""

import json
from typing import Any

from fastapi import Request

from comms.problems import Problem, invalid
from schemas.errors import Violation

MEBIBYTE = 1024 * 1024
SINGLE_LIMIT = 10 * MEBIBYTE
BATCH_LIMIT = 32 * MEBIBYTE


async def read_json(request: Request, *, limit: int) -> Any:
    """The JSON document in a request's body.

    Raises:
        Problem: 413 over `limit` bytes, 422 where it is not JSON.
    """
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise invalid([Violation("body", "must be JSON")]) from None


def _too_large(limit: int) -> Problem:
    return Problem(413, "Content Too Large", f"The body is larger than {limit // MEBIBYTE} MiB")
