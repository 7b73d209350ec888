"""A real browser: Chromium without a window, spoken to over its DevTools protocol."""

import asyncio
import base64
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from runtime import children
from websockets.asyncio.client import ClientConnection, connect

from testkit.servers import temporary_folder
from testkit.waiting import eventually

NAMES = ("chromium", "chromium-browser", "google-chrome")
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    # It visits pages of ours only, and containers seldom allow a sandbox.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-extensions",
    "--no-first-run",
    # What a page wants of other hosts fails at once instead of when the network gives up.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


class ScriptError(Exception):
    """What a script threw in the page."""


class Browser:
    """A running Chromium; `window` opens one that shares nothing with the others."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        """Hand answers to whoever waits for them, until the connection ends."""
        async for text in self._socket:
            answer = msgspec.json.decode(text)
            waiting = self._waiting.pop(answer.get("id", 0), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def ask(self, method: str, *, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """The result of a method of the protocol. Raises AssertionError when the browser refuses."""
        number = next(self._numbers)
        answered = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        asked: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            asked["sessionId"] = session
        await self._socket.send(msgspec.json.encode(asked), text=True)
        answer = await answered
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    async def window(self) -> "Window":
        """An empty window with cookies of its own."""
        context = (await self.ask("Target.createBrowserContext"))["browserContextId"]
        target = await self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        session = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        return Window(self, session["sessionId"])


class Window:
    """One page after the other, as somebody sees them."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """The result of a method of the protocol for this window."""
        return await self._browser.ask(method, session=self._session, **parameters)

    async def go(self, url: str) -> None:
        """Open an address, and whatever it redirects to."""
        opened = await self.ask("Page.navigate", url=url)
        assert "errorText" not in opened, (url, opened)

    async def run(self, script: str) -> Any:  # Any: JSON, whatever the script gives
        """What a script gives in the page, once its promise is kept. Raises ScriptError with what it threw."""
        done = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in done:
            thrown = done["exceptionDetails"].get("exception", {})
            raise ScriptError(thrown.get("description") or str(done["exceptionDetails"]))
        return done["result"].get("value")

    async def shows(self, text: str) -> None:
        """Wait until the page shows a text. Raises AssertionError with what it shows instead."""

        async def is_shown() -> bool:
            try:
                shown = await self.run(
                    "location.href + '\\n' + (document.body ? document.body.innerText : '')"
                )
            except (ScriptError, AssertionError):
                return False  # on its way from one page to the next
            assert text in shown, shown
            return True

        await eventually(is_shown, every=0.05)

    async def fill(self, selector: str, text: str) -> None:
        """Write into the first field that a CSS selector finds, once there is one."""
        await self._on(selector, f"found.value = {_text(text)}")

    async def click(self, selector: str) -> None:
        """Click on the first thing that a CSS selector finds, once there is one."""
        await self._on(selector, "found.click()")

    async def _on(self, selector: str, act: str) -> None:
        script = f"(found => found ? ({act}, true) : false)(document.querySelector({_text(selector)}))"
        await eventually(lambda: self.run(script), every=0.05)

    async def picture(self) -> bytes:
        """What is seen, as a PNG."""
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser inside the block; the test is skipped where none is installed."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: one of {', '.join(NAMES)}, as `apt-get install chromium` brings")
    with temporary_folder("browser") as folder:
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder)}
        child = children.spawn([program, *_OPTIONS, f"--user-data-dir={folder}/profile"], env=env)
        try:
            async with connect(
                await _address(folder / "profile"), max_size=_MESSAGE_BYTES_MAX, compression=None
            ) as socket:
                browser = Browser(socket)
                listening = asyncio.create_task(browser.listen())
                try:
                    yield browser
                finally:
                    listening.cancel()
        finally:
            children.stop(child, first=signal.SIGTERM, patience=5.0, last=signal.SIGKILL)


def _text(text: str) -> str:
    """A text as a literal of JavaScript."""
    return msgspec.json.encode(text).decode()


async def _address(profile: Path) -> str:
    """Where the browser listens, which it writes down once it does."""

    def written() -> list[str] | None:
        try:
            lines = (profile / "DevToolsActivePort").read_text().split()
        except FileNotFoundError:
            return None
        return lines if len(lines) == 2 else None

    found = await eventually(written, deadline=120.0, every=0.05)
    assert found is not None
    port, path = found
    return f"ws://127.0.0.1:{port}{path}"
