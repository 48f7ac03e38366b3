"""Bodies of requests: read up to a limit, and JSON or a clear refusal."""

import asyncio

from fastapi import Request
from pydantic_core import from_json

from comms.platform.problems import Problem, invalid
from schemas.errors import Violation

MEBIBYTE = 1024 * 1024
SINGLE_LIMIT = 10 * MEBIBYTE
BATCH_LIMIT = 32 * MEBIBYTE
LARGE = 256 * 1024


async def read_json(request: Request, *, limit: int) -> object:
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
        if len(body) > LARGE:  # parsed aside, so that others are answered meanwhile
            return await asyncio.to_thread(_parsed, body)
        return _parsed(body)
    except ValueError:
        raise invalid([Violation("body", "must be JSON")]) from None


def _parsed(body: bytearray) -> object:
    """Stricter than the standard library: no NaN, no half of a surrogate pair."""
    return from_json(bytes(body), allow_inf_nan=False)


def _too_large(limit: int) -> Problem:
    return Problem(413, "Content Too Large", f"The body is larger than {limit // MEBIBYTE} MiB")
