"""The HTTP application: the producer's API, the audit's queries, webhooks and the page.

`comms run app` serves it, and `comms run receipts` the webhook endpoint alone. The services do not
import one another, so the application is put together here, above them. Each service provides a
router and gets the connection pool, the codec and the rest that it needs.
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
from comms.platform.database import DatabaseError, create_pool, translate_errors
from comms.platform.kafka import Broker, EventProducer
from comms.platform.registry import build_codec
from comms.platform.settings import Settings
from consumers.registry import receipt_parsers
from producer.admission import TenantLimiter
from schemas.vocabulary import Channel

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
GRACE_SECONDS = 5


@dataclass(slots=True, kw_only=True)
class AppResources:
    """The connections and settings that the routers of one process share."""

    settings: Settings
    pool: AsyncConnectionPool
    producer: EventProducer
    database_problem: str | None = "not connected yet"
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Return why the application cannot answer; it accepts messages without Kafka."""
        return [f"PostgreSQL: {self.database_problem}"] if self.database_problem else []

    async def watch_database(self) -> None:
        """Update `database_problem` regularly."""
        while True:
            self.database_problem = await self._find_database_problem()
            await asyncio.sleep(WATCH_SECONDS)

    async def _find_database_problem(self) -> str | None:
        try:
            with translate_errors():
                async with self.pool.connection(timeout=2) as connection:
                    await connection.execute("SELECT 1")
        except DatabaseError as error:
            return str(error)
        return None


def create_resources(settings: Settings, name: str) -> AppResources:
    """Create the connections without opening them.

    Raises:
        SettingsError: an address is missing.
    """
    return AppResources(
        settings=settings,
        pool=create_pool(settings.need_database(), size=12, name=name),
        producer=Broker(settings.need_kafka()).producer(),
    )


def application(resources: AppResources) -> FastAPI:
    """Build the whole application."""
    app = _base_app(resources, "Communications")
    authenticator, feed = Authenticator(resources.pool), Feed(resources.pool)
    codec = build_codec(resources.settings)
    app.include_router(
        producer.api.router(
            pool=resources.pool,
            codec=codec,
            authenticator=authenticator,
            admission=TenantLimiter(resources.pool, resources.settings.tenants),
            policies=resources.settings.policies,
        )
    )
    app.include_router(
        audit.api.router(pool=resources.pool, authenticator=authenticator, feed=feed)
    )
    app.include_router(
        consumers.suppression.api.router(pool=resources.pool, authenticator=authenticator)
    )
    app.include_router(
        consumers.redrive.api.router(
            pool=resources.pool,
            producer=resources.producer,
            codec=codec,
            authenticator=authenticator,
        )
    )
    _include_receipts(app, resources)
    app.include_router(
        audit.page.router(pool=resources.pool, authenticator=authenticator), include_in_schema=False
    )
    return app


def receipts_application(
    resources: AppResources, channels: Collection[Channel] = tuple(Channel)
) -> FastAPI:
    """Build an application with the webhook endpoint alone, to be reachable from outside."""
    app = _base_app(resources, "Communications: receipts")
    _include_receipts(app, resources, channels)
    return app


def run_app(settings: Settings, stop: threading.Event) -> None:
    """Serve the whole application until `stop` is set.

    Raises:
        SettingsError: an address is missing or a provider's table is wrong.
        OSError: the port is taken.
    """
    resources = create_resources(settings, "app")
    _serve(application(resources), settings, stop)


def run_receipts(
    settings: Settings, stop: threading.Event, channels: Collection[Channel] = tuple(Channel)
) -> None:
    """Serve the webhook endpoint of some channels until `stop` is set.

    Raises:
        SettingsError: an address is missing or a provider's table is wrong.
        OSError: the port is taken.
    """
    resources = create_resources(settings, "receipts")
    _serve(receipts_application(resources, channels), settings, stop)


run_sms_receipts = partial(run_receipts, channels=(Channel.SMS,))
run_email_receipts = partial(run_receipts, channels=(Channel.EMAIL,))
run_push_receipts = partial(run_receipts, channels=(Channel.PUSH,))
run_voice_receipts = partial(run_receipts, channels=(Channel.VOICE,))


def _base_app(resources: AppResources, title: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await resources.pool.open()
        resources.tasks.append(asyncio.create_task(resources.watch_database()))
        try:
            yield
        finally:
            for task in resources.tasks:
                task.cancel()
            await resources.pool.close()
            await asyncio.to_thread(resources.producer.close)

    app = FastAPI(title=title, version=version("communications"), lifespan=lifespan)
    problems.install(app)
    app.include_router(_health(resources), include_in_schema=False)
    return app


def _health(resources: AppResources) -> APIRouter:
    routes = APIRouter()

    def respond(request: Request) -> Response:
        status, content_type, body = health.respond(request.url.path, resources.problems)
        return Response(body, status_code=status, headers={"Content-Type": content_type})

    for path in health.PATHS:
        routes.add_api_route(path, respond)
    return routes


def _include_receipts(
    app: FastAPI, resources: AppResources, channels: Collection[Channel] = tuple(Channel)
) -> None:
    parsers = receipt_parsers(resources.settings)
    app.include_router(
        consumers.receipts.webhooks.router(
            pool=resources.pool,
            producer=resources.producer,
            codec=build_codec(resources.settings),
            parsers={key: parser for key, parser in parsers.items() if key[0] in channels},
            public_url=resources.settings.public_url,
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
        while not should_stop():  # noqa: ASYNC110 - the event belongs to a thread
            await asyncio.sleep(0.1)
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    log.info("service.started", port=server.config.port)
    await server.serve()
    watcher.cancel()
