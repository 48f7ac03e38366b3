"""A headless Chromium over its DevTools protocol: open pages, run scripts, take pictures."""

import asyncio
import json
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
)
DEADLINE = 30.0


class Browser:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol, and its answer."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": params})
        async with asyncio.timeout(DEADLINE):
            while True:
                reply = json.loads((await self._socket.receive()).data)
                if reply.get("id") == self._calls:
                    assert "error" not in reply, reply["error"]
                    return reply["result"]
                self._note(reply)

    async def script(self, source: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=source, returnByValue=True)
        return result["result"].get("value")

    async def until(self, source: str) -> None:
        """Wait for an expression in the page to be true."""
        async with asyncio.timeout(DEADLINE):
            while not await self.script(source):  # noqa: ASYNC110 - it is another process's
                await asyncio.sleep(0.05)

    async def open(self, url: str) -> None:
        """Go there and wait until it is shown."""
        await self.call("Page.navigate", url=url)
        await self.until(
            f"document.readyState === 'complete' && location.href !== 'about:blank' "
            f"&& location.href.startsWith({json.dumps(url)})"
        )

    async def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """A window's size, and the colours its owner prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """A screenshot as PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        return b64decode(shot["data"])

    def _note(self, reply: dict[str, Any]) -> None:
        match reply.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(reply["params"]["exceptionDetails"]))
            case "Log.entryAdded" if reply["params"]["entry"]["level"] == "error":
                self.errors.append(reply["params"]["entry"]["text"])
            case _:
                pass


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own; ended at the end."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed (apt-get install chromium)"
    process = await asyncio.create_subprocess_exec(
        *(program, *FLAGS, f"--user-data-dir={folder}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = await answer.json()
            address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
            async with http.ws_connect(address, max_msg_size=0) as socket:
                browser = Browser(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await browser.call(f"{domain}.enable")
                yield browser
    finally:
        process.terminate()
        await process.wait()


async def _port(file: Path) -> int:
    async with asyncio.timeout(DEADLINE):
        while not (text := _text(file)):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    return int(text.split()[0])


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""
