"""The page's routes: overview, search, one message, and signing in with an API key.

The application mounts `router(...)` at its root. Everything is rendered here from the same queries
that the API answers from; the page's one script follows `/v1/events` and asks for the part that
lives (`X-Fragment: live`) again when something has changed.
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
from audit.page.rendering import Renderer, asset
from audit.records import Message
from comms.platform.auth import COOKIE, Authenticator, Caller, read_key
from comms.platform.clock import Clock, utc_now
from comms.platform.database import translated
from comms.platform.problems import Problem

Shown = Callable[[Caller], Awaitable[Response]]

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
    """The routes. `pool` is open while they are served."""
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    page = _Page(pool, authenticator, Renderer(clock))

    @routes.get("/")
    async def overview(request: Request) -> Response:
        return await page.signed_in(request, lambda who: page.overview(request, who))

    @routes.get("/messages")
    async def search(request: Request) -> Response:
        return await page.signed_in(request, lambda who: page.search(request, who))

    @routes.get("/messages/{message_id}")
    async def message(request: Request, message_id: str) -> Response:
        return await page.signed_in(request, lambda who: page.message(request, who, message_id))

    @routes.post("/login")
    async def login(
        request: Request, key: Annotated[str, Form()] = "", to: Annotated[str, Form()] = "/"
    ) -> Response:
        return await page.login(request, key.strip(), to)

    @routes.api_route("/logout", methods=["GET", "POST"])
    async def logout() -> Response:
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @routes.get("/assets/{name}")
    async def static(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise Problem(404, "Not Found", "There is no such file")
        content, kind = found
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(content, media_type=kind, headers=headers)

    return routes


class _Page:
    """What each route shows."""

    def __init__(
        self, pool: AsyncConnectionPool, authenticator: Authenticator, renderer: Renderer
    ) -> None:
        self._pool, self._authenticator, self._renderer = pool, authenticator, renderer

    async def signed_in(self, request: Request, show: Shown) -> Response:
        """The page for whoever has a valid key, else the form that asks for one."""
        key = read_key(request)
        who = await self._authenticator.find_caller(key) if key else None
        return self._sign_in(_here(request)) if who is None else await show(who)

    async def login(self, request: Request, key: str, to: str) -> Response:
        """Remember a valid key in a cookie that scripts and other sites cannot use."""
        if not key or await self._authenticator.find_caller(key) is None:
            return self._sign_in(to, problem="This is not a valid API key.", status=401)
        answer = RedirectResponse(_local(to), 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=secure)
        return answer

    async def overview(self, request: Request, who: Caller) -> Response:
        with translated():
            async with self._pool.connection() as connection:
                shown = await views.overview(connection, who.tenant)
        return self._html(request, "overview", who=who, view=shown)

    async def search(self, request: Request, who: Caller) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        problems: dict[str, str] = {}
        items: tuple[Message, ...] = ()
        following = None
        try:
            query = MessageQuery.model_validate({"limit": 50} | asked)
            before = before_of(query.cursor)
        except ValidationError as error:
            problems = {str(item["loc"][0]): str(item["msg"]) for item in error.errors()}
        except Problem as problem:
            problems = {e.field: e.problem for e in problem.errors}
        else:
            with translated():
                async with self._pool.connection() as connection:
                    found = await views.search(connection, who.tenant, query, before)
            items, following = found.items, cursor_of(found.next_cursor)
        return self._html(
            request,
            "messages",
            who=who,
            asked=asked,
            items=items,
            problems=problems,
            next_page=request.url.include_query_params(cursor=following) if following else None,
        )

    async def message(self, request: Request, who: Caller, text: str) -> Response:
        found = None
        try:
            message_id = UUID(text)
        except ValueError:
            pass
        else:
            with translated():
                async with self._pool.connection() as connection:
                    found = await views.message(connection, who.tenant, message_id)
        if found is None:
            return self._html(request, "missing", who=who, status=404)
        return self._html(request, "message", who=who, message=found)

    def _html(
        self, request: Request, name: str, *, status: int = 200, **values: object
    ) -> Response:
        live = request.headers.get("X-Fragment") == "live"
        text = self._renderer.page(name, fragment=live, path=request.url.path, **values)
        return HTMLResponse(text, status, headers={**HEADERS, "Vary": "X-Fragment"})

    def _sign_in(self, to: str, *, problem: str | None = None, status: int = 200) -> Response:
        text = self._renderer.page("sign_in", to=_local(to), problem=problem, who=None, path="/")
        return HTMLResponse(text, status, headers=HEADERS)


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _local(to: str) -> str:
    """Only within this site, whatever a link says."""
    plain = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if plain else "/"
