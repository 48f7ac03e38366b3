"""Errors over HTTP: `application/problem+json` (RFC 9457), with the names of the wrong fields.

Route functions raise `Problem`. `install` adds the exception handlers to an application. They
answer with a problem document for every error, also for those that FastAPI raises itself.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from comms.platform.database import DatabaseUnavailableError
from comms.platform.field_problems import describe
from comms.platform.kafka import KafkaUnavailableError
from schemas.errors import InvalidRecordError, Violation

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the name in RFC 9457
    """An error that is answered with a problem document.

    Args:
        status: the HTTP status.
        title: the kind of problem.
        detail: the explanation of this occurrence.
        errors: the wrong fields, if there are any.
        headers: the headers of the answer.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        *,
        errors: Sequence[Violation] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers

    def body(self) -> dict[str, Any]:
        """Return the problem document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail or "; ".join(map(str, self.errors)) or self.title,
        }
        if self.errors:
            document["errors"] = [{"field": e.field, "problem": e.problem} for e in self.errors]
        return document


def unprocessable(violations: Sequence[Violation]) -> Problem:
    """Return a problem with status 422: some fields are not valid."""
    return Problem(422, "The request is not valid", errors=violations)


def to_violations(error: RequestValidationError) -> tuple[Violation, ...]:
    """Return the violations that FastAPI found, one for each field, without the values."""
    return tuple(Violation(_field_path(item["loc"]), describe(item)) for item in error.errors())


def _field_path(location: Sequence[int | str]) -> str:
    """Return the path of a field, such as `messages[3].to`."""
    has_source = bool(location) and location[0] in {"body", "query", "path", "header"}
    path = ""
    for part in location[1:] if has_source else location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path or "body"


def install(app: FastAPI) -> None:
    """Add the exception handlers that answer every error with a problem document."""

    def respond(problem: Problem) -> JSONResponse:
        return JSONResponse(
            problem.body(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
        )

    @app.exception_handler(Problem)
    async def on_problem(_: Request, error: Problem) -> JSONResponse:
        return respond(error)

    @app.exception_handler(InvalidRecordError)
    async def on_record(_: Request, error: InvalidRecordError) -> JSONResponse:
        return respond(unprocessable(error.violations))

    @app.exception_handler(RequestValidationError)
    async def on_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return respond(unprocessable(to_violations(error)))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase
        headers = dict(error.headers) if error.headers else None
        return respond(Problem(error.status_code, title, str(error.detail), headers=headers))

    @app.exception_handler(DatabaseUnavailableError)
    async def on_database(_: Request, error: DatabaseUnavailableError) -> JSONResponse:
        return respond(_unavailable("The database does not answer; nothing was done"))

    @app.exception_handler(KafkaUnavailableError)
    async def on_kafka(_: Request, error: KafkaUnavailableError) -> JSONResponse:
        return respond(_unavailable("Kafka does not answer; nothing was done"))


def _unavailable(detail: str) -> Problem:
    return Problem(503, "Service unavailable", detail, headers={"Retry-After": "1"})
