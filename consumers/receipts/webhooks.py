"""The webhook endpoint: `POST /receipts/{channel}/{provider}`.

It verifies that the provider sent the request, passes its receipts to
`consumers.receipts.processor`, and answers 204 once they are published. If that is not possible now
the answer is 503, and the provider repeats the request.
"""

from collections.abc import Mapping, Sequence

import structlog
from fastapi import APIRouter, Request, Response
from psycopg_pool import AsyncConnectionPool

from comms.platform.kafka import EventProducer
from comms.platform.problems import Problem
from consumers.receipts.batching import ReceiptSource
from consumers.receipts.processor import ReceiptProcessor
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

MAX_BODY = 1024 * 1024  # bytes; providers' requests have a few kilobytes

Parsers = Mapping[tuple[Channel, str], ReceiptParser]


def router(
    *,
    pool: AsyncConnectionPool,
    producer: EventProducer,
    codec: Codec,
    parsers: Parsers,
    public_url: str,
) -> APIRouter:
    """Build the endpoint, for the application or for a process of its own.

    Args:
        parsers: as `consumers.registry.receipt_parsers` returns them.
        public_url: the address of the application from outside; some signatures cover it.
    """
    routes = APIRouter(tags=["receipts"])
    processor = ReceiptProcessor(pool, producer, codec)

    @routes.post(
        "/receipts/{channel}/{provider}",
        status_code=204,
        response_class=Response,
        summary="A provider's webhook; its signature is verified",
    )
    async def receive(request: Request, channel: str, provider: str) -> Response:
        source, parser = _find_parser(parsers, channel, provider)
        body = await _read_body(request)
        url = f"{public_url}{request.url.path}"
        if request.url.query:
            url += f"?{request.url.query}"
        receipts = _parse(parser, source, request.headers, body, url)
        await _process(processor, source, receipts)
        return Response(status_code=204)

    return routes


async def _process(
    processor: ReceiptProcessor, source: ReceiptSource, receipts: Sequence[ReceiptEvent]
) -> None:
    try:
        await processor.process(source.channel, source.provider, receipts)
    except ReceiptNotStoredError as error:
        log.warning("receipt.not_published", provider=source.provider, problem=str(error))
        raise _ask_to_repeat() from error


def _ask_to_repeat() -> Problem:
    return Problem(
        503,
        "Service unavailable",
        "The receipt could not be recorded now; send it again",
        headers={"Retry-After": "5"},
    )


def _find_parser(
    parsers: Parsers, channel: str, provider: str
) -> tuple[ReceiptSource, ReceiptParser]:
    for (configured_channel, name), parser in parsers.items():
        if configured_channel == channel and name == provider:
            return ReceiptSource(configured_channel, name), parser
    raise Problem(404, "Not Found", "No provider of that name sends receipts here")


async def _read_body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            raise Problem(413, "Content Too Large", f"At most {MAX_BODY} bytes")
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
        raise _ask_to_repeat() from error
    except UnreadableReceiptError as error:
        source.count("unreadable")
        raise Problem(400, "Bad Request", str(error)) from error
