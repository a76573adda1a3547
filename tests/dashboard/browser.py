"""A real Chromium, driven by its debugging protocol: no other library, and nothing that waits for a time.

>>> with chromium(folder) as browser:
...     browser.open("http://127.0.0.1:5555/overview")
...     browser.until("document.querySelector('h1')")
...     assert browser.complaints == []
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.servers import find, missing
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN = 30.0
LARGEST = 50_000_000


class Browser:
    """One page of a Chromium. `complaints`: errors of its scripts, and what its security policy has refused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.complaints: list[str] = []
        self._loop, self._last = loop, 0
        self._socket = loop.run_until_complete(self._connect(port))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    async def _connect(self, port: int) -> Any:
        answer = await AsyncHTTPClient().fetch(
            HTTPRequest(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT", body="")
        )
        return await websocket_connect(json.loads(answer.body)["webSocketDebuggerUrl"], max_message_size=LARGEST)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Do something of the protocol, and note what happens meanwhile."""
        self._last += 1
        self._loop.run_until_complete(self._send({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._loop.run_until_complete(self._receive()))
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.write_message(json.dumps(message))

    async def _receive(self) -> Any:
        return await asyncio.wait_for(self._socket.read_message(), WITHIN)

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def log_in(self, credentials: str) -> None:
        word = base64.b64encode(credentials.encode()).decode()
        self.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})

    def open(self, url: str) -> None:
        self.run("window.leaving = true")
        self.call("Page.navigate", url=url)
        self.until("!window.leaving && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """What a script says."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> Any:
        """Look until a script says something true."""
        return eventually(
            lambda: self.run(f"Boolean({condition}) && ({condition}) !== null"),
            lambda: f"{condition}\n{self.run('document.body.innerText')[:3000]}",
        )

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A Chromium with a profile of its own in `folder`."""
    program = find("chromium", []) or find("chromium-browser", []) or find("google-chrome", []) or missing("chromium")
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
               "--remote-debugging-port=0", f"--user-data-dir={folder}/profile", "--disable-background-networking",
               "--disable-component-update", "--disable-extensions", "about:blank"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    loop = asyncio.new_event_loop()
    try:
        yield Browser(loop, _port(Path(folder, "profile", "DevToolsActivePort"), process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        loop.close()


def _port(written: Path, process: subprocess.Popen[bytes]) -> int:
    started = lambda: written.exists() and written.read_text().count("\n")  # noqa: E731
    eventually(lambda: started() or process.poll() is not None, lambda: "chromium did not start")
    assert started(), f"chromium ended with {process.returncode}"
    return int(written.read_text().splitlines()[0])
