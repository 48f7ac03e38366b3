"""The routes of the page: overview, search, one message, and signing in with an API key.

The application mounts `router(...)` at its root. The page uses the same queries as the API
(`audit.queries`). Its script follows `/v1/events`. When something has changed, the script requests
the `live` block of the page again, with the header `X-Fragment: live`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from psycopg_pool import AsyncConnectionPool
from pydantic import ValidationError

from audit.api import MessageQuery, before_of, cursor_of
from audit.page import views
from audit.page.rendering import Renderer, read_asset
from audit.records import Message, MessageHistory
from comms.platform.auth import COOKIE, Authenticator, Caller, read_key
from comms.platform.clock import Clock, utc_now
from comms.platform.database import translate_errors
from comms.platform.problems import Problem

ShowPage = Callable[[Caller], Awaitable[Response]]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def router(
    *, pool: AsyncConnectionPool, authenticator: Authenticator, clock: Clock = utc_now
) -> APIRouter:
    """Return the routes of the page. The caller opens `pool` before the first request."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages = _Pages(pool, authenticator, Renderer(clock))

    @routes.get("/")
    async def overview(request: Request) -> Response:
        return await pages.with_caller(request, lambda caller: pages.overview(request, caller))

    @routes.get("/messages")
    async def search(request: Request) -> Response:
        return await pages.with_caller(request, lambda caller: pages.search(request, caller))

    @routes.get("/messages/{message_id}")
    async def message(request: Request, message_id: str) -> Response:
        return await pages.with_caller(
            request, lambda caller: pages.message(request, caller, message_id)
        )

    @routes.post("/login")
    async def login(
        request: Request, key: Annotated[str, Form()] = "", to: Annotated[str, Form()] = "/"
    ) -> Response:
        return await pages.login(request, key.strip(), to)

    @routes.api_route("/logout", methods=["GET", "POST"])
    async def logout() -> Response:
        response = RedirectResponse("/", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    @routes.get("/assets/{name}")
    async def static(name: str) -> Response:
        asset = read_asset(name)
        if asset is None:
            raise Problem(404, "Not Found", "There is no such file")
        content, media_type = asset
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=media_type, headers=headers)

    return routes


class _Pages:
    """Builds the response of each route."""

    def __init__(
        self, pool: AsyncConnectionPool, authenticator: Authenticator, renderer: Renderer
    ) -> None:
        self._pool = pool
        self._authenticator = authenticator
        self._renderer = renderer

    async def with_caller(self, request: Request, show_page: ShowPage) -> Response:
        """Return the page for a request with a valid API key, and the sign-in form otherwise."""
        key = read_key(request)
        caller = await self._authenticator.find_caller(key) if key else None
        if caller is None:
            return self._sign_in_form(_path_with_query(request))
        return await show_page(caller)

    async def login(self, request: Request, key: str, to: str) -> Response:
        """Store a valid key in a cookie that scripts and other sites cannot use."""
        if not key or await self._authenticator.find_caller(key) is None:
            return self._sign_in_form(to, problem="This is not a valid API key.", status=401)
        response = RedirectResponse(_local_path(to), 303)
        is_secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=is_secure)
        return response

    async def overview(self, request: Request, caller: Caller) -> Response:
        """Return the overview: the backlog, the channels and the latest messages."""
        with translate_errors():
            async with self._pool.connection() as connection:
                overview = await views.load_overview(connection, caller.tenant)
        return self._html(request, "overview", caller=caller, overview=overview)

    async def search(self, request: Request, caller: Caller) -> Response:
        """Return the messages that match the query parameters, or the problems of the query."""
        parameters = {name: value for name, value in request.query_params.items() if value}
        problems: dict[str, str] = {}
        items: tuple[Message, ...] = ()
        next_cursor = None
        try:
            query = MessageQuery.model_validate({"limit": 50} | parameters)
            before = before_of(query.cursor)
        except ValidationError as error:
            problems = {str(item["loc"][0]): str(item["msg"]) for item in error.errors()}
        except Problem as problem:
            problems = {violation.field: violation.problem for violation in problem.errors}
        else:
            with translate_errors():
                async with self._pool.connection() as connection:
                    page = await views.find_messages(
                        connection, caller.tenant, query, before=before
                    )
            items, next_cursor = page.items, cursor_of(page.next_cursor)
        return self._html(
            request,
            "messages",
            caller=caller,
            parameters=parameters,
            items=items,
            problems=problems,
            next_page=request.url.include_query_params(cursor=next_cursor) if next_cursor else None,
        )

    async def message(self, request: Request, caller: Caller, id_text: str) -> Response:
        """Return the page of one message, or a 404 page if the tenant has no such message."""
        message = await self._load_message(caller.tenant, id_text)
        if message is None:
            return self._html(request, "missing", caller=caller, status=404)
        return self._html(request, "message", caller=caller, message=message)

    async def _load_message(self, tenant: str, id_text: str) -> MessageHistory | None:
        try:
            message_id = UUID(id_text)
        except ValueError:
            return None
        with translate_errors():
            async with self._pool.connection() as connection:
                return await views.load_message(connection, tenant, message_id)

    def _html(
        self, request: Request, name: str, *, status: int = 200, **values: object
    ) -> Response:
        is_fragment = request.headers.get("X-Fragment") == "live"
        html = self._renderer.render(name, fragment=is_fragment, path=request.url.path, **values)
        return HTMLResponse(html, status, headers={**HEADERS, "Vary": "X-Fragment"})

    def _sign_in_form(self, to: str, *, problem: str | None = None, status: int = 200) -> Response:
        html = self._renderer.render(
            "sign_in", to=_local_path(to), problem=problem, caller=None, path="/"
        )
        return HTMLResponse(html, status, headers=HEADERS)


def _path_with_query(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _local_path(to: str) -> str:
    """Return a path of this site; `/` if `to` leads to another site."""
    is_local = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if is_local else "/"
