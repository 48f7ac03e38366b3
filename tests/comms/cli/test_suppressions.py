"""`comms suppressions` through the real API, on a real database."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from comms.platform import keys, problems
from comms.platform.auth import Authenticator
from comms.platform.database import create_pool
from comms.stack.process import free_port
from consumers.suppression import api
from tests.comms.cli.conftest import Run
from tests.waiting import wait_for


@pytest.fixture
def served(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The API of the suppression list, with its address and a key in the environment."""
    pool = create_pool(database_url, size=2, name="test")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await pool.open()
        yield
        await pool.close()

    app = FastAPI(lifespan=lifespan)
    problems.install(app)
    app.include_router(api.router(pool=pool, authenticator=Authenticator(pool)))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, what="the API answers")
    with psycopg.connect(database_url, autocommit=True) as session:
        monkeypatch.setenv("COMMS_API_KEY", keys.create(session, "acme", "test"))
    monkeypatch.setenv("COMMS_URL", f"http://127.0.0.1:{port}")
    yield
    server.should_exit = True
    thread.join(10)


@pytest.mark.usefixtures("served")
def test_a_recipient_is_added_listed_and_removed(comms: Run) -> None:
    added = comms("suppressions", "add", "email", "Ada@Example.com", "--reason", "opt_out")
    assert (added.code, added.out) == (0, "ada@example.com is suppressed for email: opt_out\n")
    assert comms("suppressions", "add", "sms", "+12025550177").code == 0
    listed = comms("suppressions", "list")
    assert "ada@example.com" in listed.out
    assert "+12025550177" in listed.out
    document = json.loads(comms("suppressions", "list", "--channel", "email", "--json").out)
    assert [(i["recipient"], i["reason"]) for i in document["items"]] == [
        ("ada@example.com", "opt_out")
    ]
    assert comms("suppressions", "remove", "email", "ADA@example.com").code == 0
    remaining = json.loads(comms("suppressions", "list", "--json").out)["items"]
    assert [item["channel"] for item in remaining] == ["sms"]


@pytest.mark.usefixtures("served")
def test_a_list_has_a_limit_and_continues_with_the_cursor(comms: Run) -> None:
    for number in range(3):
        comms("suppressions", "add", "sms", f"+1202555017{number}")
    first = comms("suppressions", "list", "--limit", "2", "--json")
    cursor = json.loads(first.out)["next_cursor"]
    rest = json.loads(comms("suppressions", "list", "--cursor", cursor, "--json").out)
    assert [item["recipient"] for item in rest["items"]] == ["+12025550172"]
    assert rest["next_cursor"] is None


@pytest.mark.usefixtures("served")
def test_an_invalid_recipient_is_one_line(comms: Run) -> None:
    for command in ("add", "remove"):
        ran = comms("suppressions", command, "sms", "not-a-number")
        assert ran.code == 1
        assert ran.err.startswith("comms: recipient: must be a phone number")
        assert ran.err.count("\n") == 1
