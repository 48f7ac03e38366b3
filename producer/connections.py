"""Runs a plan of statements on the caller's connection, of psycopg or SQLAlchemy, sync or async.

`producer.outbox` passes the connection and the plan. Only this module knows how each library
executes a statement and returns its rows.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from producer.statements import Plan, Result, Row, Statement

SyncHandle = psycopg.Connection[Any] | Connection | Session
AsyncHandle = psycopg.AsyncConnection[Any] | AsyncConnection | AsyncSession
Handle = SyncHandle | AsyncHandle


class UnsupportedConnectionError(TypeError):
    """The connection is neither of psycopg 3 nor of SQLAlchemy with psycopg 3."""


def run(connection: object, plan: Plan) -> tuple[Result, ...]:
    """Run `plan` on a synchronous connection.

    Raises:
        UnsupportedConnectionError: the connection uses another driver.
    """
    return _drive(_sync_executor(connection), plan)


async def run_async(connection: AsyncHandle, plan: Plan) -> tuple[Result, ...]:
    """Run `plan` on an asynchronous connection.

    Raises:
        UnsupportedConnectionError: the connection uses another driver.
    """
    return await _drive_async(_async_executor(connection), plan)


def _drive(execute: Callable[[Statement], Sequence[Row]], plan: Plan) -> tuple[Result, ...]:
    statement = next(plan)
    while True:
        rows = execute(statement)
        try:
            statement = plan.send(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the generator's own return type


async def _drive_async(
    execute: Callable[[Statement], Awaitable[Sequence[Row]]], plan: Plan
) -> tuple[Result, ...]:
    statement = next(plan)
    while True:
        rows = await execute(statement)
        try:
            statement = plan.send(rows)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the generator's own return type


def _sync_executor(connection: object) -> Callable[[Statement], Sequence[Row]]:
    match connection:
        case psycopg.Connection():
            return lambda statement: (
                connection.cursor(row_factory=tuple_row)
                .execute(statement.sql, statement.parameters)
                .fetchall()
            )
        case Session():
            return _sync_executor(connection.connection())
        case Connection():
            _check_driver(connection.dialect.driver)
            return lambda statement: [
                tuple(row)
                for row in connection.exec_driver_sql(statement.sql, statement.parameters)
            ]
    raise UnsupportedConnectionError(
        f"{type(connection).__name__} is not supported; pass a connection of psycopg 3, or of"
        " SQLAlchemy with psycopg 3 (postgresql+psycopg://…)"
    )


def _async_executor(connection: AsyncHandle) -> Callable[[Statement], Awaitable[Sequence[Row]]]:
    async def execute_psycopg(statement: Statement) -> Sequence[Row]:
        assert isinstance(connection, psycopg.AsyncConnection)  # noqa: S101 - chosen below
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(statement.sql, statement.parameters)
            return await cursor.fetchall()

    async def execute_sqlalchemy(statement: Statement) -> Sequence[Row]:
        handle = connection
        if isinstance(handle, AsyncSession):
            handle = await handle.connection()
        assert isinstance(handle, AsyncConnection)  # noqa: S101 - chosen below
        _check_driver(handle.dialect.driver)
        result = await handle.exec_driver_sql(statement.sql, statement.parameters)
        return [tuple(row) for row in result]

    is_psycopg = isinstance(connection, psycopg.AsyncConnection)
    return execute_psycopg if is_psycopg else execute_sqlalchemy


def _check_driver(driver: str) -> None:
    if driver not in {"psycopg", "psycopg_async"}:
        raise UnsupportedConnectionError(
            f"this SQLAlchemy connection uses the driver {driver}; the outbox needs psycopg 3"
            " (postgresql+psycopg://…)"
        )
