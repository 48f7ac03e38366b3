"""The bodies of requests: read up to a size limit, and parsed as JSON.

The routes of `producer.api` call `read_json` before anything else.
"""

import asyncio

from fastapi import Request
from pydantic_core import from_json

from comms.platform.problems import Problem, unprocessable
from schemas.errors import Violation

MEBIBYTE = 1024 * 1024
SINGLE_LIMIT = 10 * MEBIBYTE
BATCH_LIMIT = 32 * MEBIBYTE
LARGE = 256 * 1024


async def read_json(request: Request, *, limit: int) -> object:
    """Return the JSON document in the body of a request.

    Raises:
        Problem: 413 if the body is larger than `limit` bytes, 422 if it is not JSON.
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
        if len(body) > LARGE:  # parsed on a thread, so that other requests are served meanwhile
            return await asyncio.to_thread(_parse, body)
        return _parse(body)
    except ValueError:
        raise unprocessable([Violation("body", "must be JSON")]) from None


def _parse(body: bytearray) -> object:
    """Parse JSON more strictly than the standard library: no NaN, no lone surrogates."""
    return from_json(bytes(body), allow_inf_nan=False)


def _too_large(limit: int) -> Problem:
    size = limit // MEBIBYTE
    return Problem(413, "Content Too Large", f"The body must be at most {size} MiB")
