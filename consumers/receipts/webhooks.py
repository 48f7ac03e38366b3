"""The receipt endpoint: a provider's later word, verified and handed to the desk.

`POST /receipts/{channel}/{provider}` proves who speaks, hands what was said to
`consumers.receipts.processor`, and answers 204 once it is announced. Whenever that cannot be done
now the answer is 503, and the provider says it again.
"""

from collections.abc import Mapping, Sequence

import structlog
from fastapi import APIRouter, Request, Response
from psycopg_pool import AsyncConnectionPool

from comms.platform.kafka import EventProducer
from comms.platform.problems import Problem
from consumers.receipts.processor import ReceiptProcessor, ReceiptSource
from consumers.sdk.receipt_stream import ReceiptNotStoredError
from consumers.sdk.receipts import (
    BadSignatureError,
    NotSetUpError,
    ReceiptEvent,
    ReceiptParser,
    UnreadableReceiptError,
)
from schemas.codec import Codec
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

BODY_LIMIT = 1024 * 1024  # bytes; providers' requests are a few kilobytes

Parsers = Mapping[tuple[Channel, str], ReceiptParser]


def router(
    *,
    pool: AsyncConnectionPool,
    producer: EventProducer,
    codec: Codec,
    parsers: Parsers,
    public_url: str,
) -> APIRouter:
    """The endpoint, for the application or for a process of its own.

    Args:
        parsers: of `consumers.registry.receipt_parsers`.
        public_url: where this is reached from outside; some signatures cover it.
    """
    routes = APIRouter(tags=["receipts"])
    desk = ReceiptProcessor(pool, producer, codec)

    @routes.post(
        "/receipts/{channel}/{provider}",
        status_code=204,
        response_class=Response,
        summary="A provider's webhook; its signature is verified",
    )
    async def take(request: Request, channel: str, provider: str) -> Response:
        source, parser = _parser(parsers, channel, provider)
        body = await _body(request)
        url = f"{public_url}{request.url.path}"
        if request.url.query:
            url += f"?{request.url.query}"
        await _announce(desk, source, _parse(parser, source, request.headers, body, url))
        return Response(status_code=204)

    return routes


async def _announce(
    desk: ReceiptProcessor, source: ReceiptSource, said: Sequence[ReceiptEvent]
) -> None:
    try:
        await desk.announce(source.channel, source.provider, said)
    except ReceiptNotStoredError as error:
        log.warning("receipt.not_announced", provider=source.provider, problem=str(error))
        raise _say_it_again() from error


def _say_it_again() -> Problem:
    return Problem(
        503,
        "Service unavailable",
        "The receipt could not be recorded now; send it again",
        headers={"Retry-After": "5"},
    )


def _parser(parsers: Parsers, channel: str, provider: str) -> tuple[ReceiptSource, ReceiptParser]:
    for (known, name), parser in parsers.items():
        if known == channel and name == provider:
            return ReceiptSource(known, name), parser
    raise Problem(404, "Not Found", "No provider of that name sends receipts here")


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > BODY_LIMIT:
            raise Problem(413, "Content Too Large", f"At most {BODY_LIMIT} bytes")
    return b"".join(parts)


def _parse(
    parser: ReceiptParser, source: ReceiptSource, headers: Mapping[str, str], body: bytes, url: str
) -> Sequence[ReceiptEvent]:
    try:
        return parser.parse(headers, body, url)
    except BadSignatureError as error:
        source.count("forged")
        log.warning("receipt.forged", provider=source.provider, problem=str(error))
        raise Problem(403, "Forbidden", str(error)) from error
    except NotSetUpError as error:
        source.count("unavailable")
        log.warning("receipts.setup_needed", provider=source.provider, problem=str(error))
        raise _say_it_again() from error
    except UnreadableReceiptError as error:
        source.count("unreadable")
        raise Problem(400, "Bad Request", str(error)) from error
