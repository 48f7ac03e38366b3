"""The page in a real browser: signing in, and a status that changes without a reload."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from audit import merge
from comms.platform.clock import utc_now
from schemas import events
from tests.audit import samples, scene
from tests.audit.browser import chromium

pytestmark = pytest.mark.browser


@pytest.fixture
async def address(app: FastAPI) -> AsyncIterator[str]:
    """Serve the application on a port of its own, and yield its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server_task = asyncio.create_task(server.serve(sockets=[listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await server_task


async def test_the_status_of_a_message_changes_without_a_reload(
    address: str, key: str, connection: merge.Connection, tmp_path: Path
) -> None:
    scene.play(connection, now=utc_now(), count=60)
    message = samples.sms(at=utc_now(), customer_id="watched")
    merge.merge(connection, [events.queued(message)], {})
    async with chromium(tmp_path / "profile") as browser:
        await browser.size(1280, 900)
        await browser.open(f"{address}/")
        await browser.script(
            f"document.querySelector('[name=key]').value = '{key}';"
            "document.querySelector('form').submit()"
        )
        await browser.until("document.getElementById('link')?.textContent === 'live'")
        assert await browser.script("document.querySelectorAll('.card').length") == 4
        assert await browser.script("document.cookie") == ""

        row = "[...document.querySelectorAll('tr')].find(r => r.innerText.includes('watched'))"
        await browser.until(f"{row}?.innerText.includes('pending')")
        merge.merge(connection, samples.delivered_life(message)[1:], {})
        await browser.until(f"{row}?.innerText.includes('delivered')")
        for width, dark in ((1280, False), (390, True)):
            await browser.size(width, 900, dark=dark)
            fits = "document.documentElement.scrollWidth <= window.innerWidth"
            assert await browser.script(fits), f"the page is wider than {width}"
        assert browser.errors == []
