"""What a person's browser makes of a link: Chromium where it is installed, else HTTP and an HTML parser."""

import asyncio
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Protocol

import httpx
from websockets.asyncio.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which root has none of; only pages of these tests are shown
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--remote-debugging-port=0",
)
START_SECONDS = 60
LOAD_SECONDS = 60
STOP_SECONDS = 20
STEP = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person sees after following a link."""

    address: str
    title: str
    text: str
    fits: bool
    """Whether nothing sticks out at the side. Without a browser: whether the page fits itself to its window."""


class Browser(Protocol):
    """Follows links."""

    scripts: bool
    """Whether it runs the scripts of a page."""

    async def visit(self, address: str, width: int = 1280) -> Seen:
        """Opens the address in a window of that width and waits until the page has settled."""
        ...


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """The best browser of this machine."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        yield Plain()
        return
    async with Chromium.started(program) as browser:
        yield browser


class Plain:
    """No browser: the same answers over HTTP, redirects followed, markup read."""

    scripts = False

    async def visit(self, address: str, width: int = 1280) -> Seen:
        """The answer at the end of the redirects."""
        async with httpx.AsyncClient(follow_redirects=True, timeout=LOAD_SECONDS) as client:
            answer = await client.get(address)
        page = _Markup()
        page.feed(answer.text)
        return Seen(
            address=str(answer.url),
            title=" ".join(page.parts["title"]),
            text="\n".join(page.parts["body"]),
            fits="width=device-width" in answer.text and "overflow-wrap" in answer.text,
        )


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, list[str]] = {"title": [], "body": []}
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.parts:
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside and data.strip():
            self.parts[self._inside].append(data.strip())


class Chromium:
    """A headless Chromium, led by its DevTools protocol."""

    scripts = True

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None

    @classmethod
    @asynccontextmanager
    async def started(cls, program: str) -> AsyncIterator["Chromium"]:
        """A Chromium of its own, without the profile of whoever runs the tests."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                program,
                *OPTIONS,
                f"--user-data-dir={profile}",
                "about:blank",
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                address = await _address(Path(profile))
                # No signs of life: a machine that is busy would be taken for a browser that is gone.
                given: dict[str, Any] = {"max_size": None, "proxy": None, "ping_interval": None}
                async with connect(address, open_timeout=START_SECONDS, **given) as socket:
                    yield cls(socket)
            finally:
                await _ended(process)

    async def visit(self, address: str, width: int = 1280) -> Seen:
        """Opens the address in a new window of that width."""
        await self._window(width)
        await self._ask("Page.navigate", url=address)
        await self.until("location.href !== 'about:blank' && document.readyState === 'complete'")
        return Seen(
            address=await self.read("location.href"),
            title=await self.read("document.title"),
            text=await self.read("document.body.innerText"),
            fits=await self.read("document.documentElement.scrollWidth <= innerWidth"),
        )

    async def read(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = await self._ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Waits until a JavaScript expression is true in the page. Raises TimeoutError."""
        async with asyncio.timeout(LOAD_SECONDS):
            while not await self._holds(expression):  # noqa: ASYNC110 - it happens in the browser
                await asyncio.sleep(STEP)

    async def _holds(self, expression: str) -> bool:
        try:
            return bool(await self.read(expression))
        except RuntimeError:  # one page is being replaced by another, and there is nowhere to ask
            return False

    async def _window(self, width: int) -> None:
        self._session = None
        target = await self._ask("Target.createTarget", url="about:blank")
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._ask("Emulation.setDeviceMetricsOverride", **size)

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        await self._socket.send(json.dumps(message))
        async with asyncio.timeout(LOAD_SECONDS):
            while True:
                answer = json.loads(await self._socket.recv())
                if answer.get("id") == number:
                    break
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends a browser, by force where it does not go."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(profile: Path) -> str:
    """Where DevTools listens, which Chromium writes into its profile."""
    file = profile / "DevToolsActivePort"
    for _ in range(int(START_SECONDS / STEP)):
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(STEP)
    raise TimeoutError("Chromium did not start.")
