"""The one HTTP application: the producer's API, the audit queries, receipts and the page.

`comms run app` serves it. The services do not know one another, so it is put together here, above
them: each contributes a router and is given the pool, the codec and the clock it needs.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version

import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Request, Response
from psycopg_pool import AsyncConnectionPool

import audit.api
import audit.page
import consumers.receipts.webhooks
import consumers.redrive.api
import consumers.suppression.api
import producer.api
from audit.feed import Feed
from comms.platform import health, problems
from comms.platform.auth import Authenticator
from comms.platform.database import DatabaseError, async_pool, translated
from comms.platform.kafka import Broker, EventProducer
from comms.platform.registry import codec_of
from comms.platform.settings import Settings
from consumers.registry import receipt_parsers
from producer.admission import Admission
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
GRACE_SECONDS = 5


@dataclass(slots=True, kw_only=True)
class Parts:
    """What the routers share, for one process."""

    settings: Settings
    pool: AsyncConnectionPool
    producer: EventProducer
    database_problem: str | None = "not connected yet"
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What keeps the application from answering. Messages are accepted without Kafka."""
        return [f"PostgreSQL: {self.database_problem}"] if self.database_problem else []

    async def watch_database(self) -> None:
        """Keep `database_problem` true."""
        while True:
            try:
                with translated():
                    async with self.pool.connection(timeout=2) as connection:
                        await connection.execute("SELECT 1")
                self.database_problem = None
            except DatabaseError as error:
                self.database_problem = str(error)
            await asyncio.sleep(WATCH_SECONDS)


def parts_of(settings: Settings, name: str) -> Parts:
    """Connections, not yet open.

    Raises:
        SettingsError: an address is missing.
    """
    return Parts(
        settings=settings,
        pool=async_pool(settings.need_database(), size=12, name=name),
        producer=Broker(settings.need_kafka()).producer(),
    )


def application(parts: Parts) -> FastAPI:
    """The whole application."""
    app = _bare(parts, "Communications")
    authenticator, feed = Authenticator(parts.pool), Feed(parts.pool)
    codec = codec_of(parts.settings)
    app.include_router(
        producer.api.router(
            pool=parts.pool,
            codec=codec,
            authenticator=authenticator,
            admission=Admission(parts.pool, parts.settings.tenants),
            policies=parts.settings.policies,
        )
    )
    app.include_router(audit.api.router(pool=parts.pool, authenticator=authenticator, feed=feed))
    app.include_router(
        consumers.suppression.api.router(pool=parts.pool, authenticator=authenticator)
    )
    app.include_router(
        consumers.redrive.api.router(
            pool=parts.pool, producer=parts.producer, codec=codec, authenticator=authenticator
        )
    )
    _include_receipts(app, parts)
    app.include_router(
        audit.page.router(pool=parts.pool, authenticator=authenticator), include_in_schema=False
    )
    return app


def receipts_application(parts: Parts, channels: Collection[Channel] = tuple(Channel)) -> FastAPI:
    """The receipt endpoint alone, to be reached from outside."""
    app = _bare(parts, "Communications: receipts")
    _include_receipts(app, parts, channels)
    return app


def run_app(settings: Settings, stop: threading.Event) -> None:
    """Serve the whole application until `stop` is set.

    Raises:
        SettingsError: an address is missing or a provider's table wrong.
        OSError: the port is taken.
    """
    parts = parts_of(settings, "app")
    _serve(application(parts), settings, stop)


def run_receipts(
    settings: Settings, stop: threading.Event, channels: Collection[Channel] = tuple(Channel)
) -> None:
    """Serve the receipt endpoint, of all channels or of some, until `stop` is set; raises as
    `run_app` does."""
    parts = parts_of(settings, "receipts")
    _serve(receipts_application(parts, channels), settings, stop)


run_sms_receipts = partial(run_receipts, channels=(Channel.SMS,))
run_email_receipts = partial(run_receipts, channels=(Channel.EMAIL,))
run_push_receipts = partial(run_receipts, channels=(Channel.PUSH,))
run_voice_receipts = partial(run_receipts, channels=(Channel.VOICE,))


def _bare(parts: Parts, title: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await parts.pool.open()
        parts.tasks.append(asyncio.create_task(parts.watch_database()))
        try:
            yield
        finally:
            for task in parts.tasks:
                task.cancel()
            await parts.pool.close()
            await asyncio.to_thread(parts.producer.close)

    app = FastAPI(title=title, version=version("communications"), lifespan=lifespan)
    problems.install(app)
    app.include_router(_health(parts), include_in_schema=False)
    return app


def _health(parts: Parts) -> APIRouter:
    routes = APIRouter()

    def respond(request: Request) -> Response:
        status, kind, body = health.answer(request.url.path, parts.problems)
        return Response(body, status_code=status, headers={"Content-Type": kind})

    for path in health.PATHS:
        routes.add_api_route(path, respond)
    return routes


def _include_receipts(
    app: FastAPI, parts: Parts, channels: Collection[Channel] = tuple(Channel)
) -> None:
    parsers = receipt_parsers(parts.settings)
    app.include_router(
        consumers.receipts.webhooks.router(
            pool=parts.pool,
            producer=parts.producer,
            codec=codec_of(parts.settings),
            parsers={of: parser for of, parser in parsers.items() if of[0] in channels},
            public_url=parts.settings.public_url,
        )
    )


def _serve(app: FastAPI, settings: Settings, stop: threading.Event) -> None:
    config = uvicorn.Config(
        app,
        host=settings.http_host,
        port=settings.http_port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    uvloop.run(_until_stopped(uvicorn.Server(config), stop.is_set))


async def _until_stopped(server: uvicorn.Server, should_stop: Callable[[], bool]) -> None:
    async def watch() -> None:
        while not should_stop():  # noqa: ASYNC110 - the event is a thread's
            await asyncio.sleep(0.1)
        server.should_exit = True

    watching = asyncio.create_task(watch())
    log.info("service.started", port=server.config.port)
    await server.serve()
    watching.cancel()
