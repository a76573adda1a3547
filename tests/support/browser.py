"""A real Chromium, driven by its debugging protocol, without another library and without sleeps.

>>> with chromium(folder) as browser:
...     browser.open("http://127.0.0.1:5555/overview")
...     browser.until("document.querySelector('h1')")
...     assert browser.complaints == []
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import json
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from tests.support.servers import find, missing
from tests.support.waits import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The error of a script's promise when its page is left.
GONE = ("navigated", "destroyed", "Cannot find context")
LARGEST = 50_000_000


class Browser:
    """One page of a Chromium. `complaints` are errors of its scripts and violations of its security
    policy.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.complaints: list[str] = []
        self._loop, self._last, self._loaded = loop, 0, False
        self._socket = loop.run_until_complete(self._connect(port))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    async def _connect(self, port: int) -> Any:
        answer = await AsyncHTTPClient().fetch(
            HTTPRequest(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT", body="")
        )
        return await websocket_connect(
            json.loads(answer.body)["webSocketDebuggerUrl"], max_message_size=LARGEST
        )

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol, and note the events that come meanwhile."""
        answer = self._ask(method, params)
        assert "error" not in answer, answer
        return answer["result"]

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        self._loop.run_until_complete(
            self._send({"id": self._last, "method": method, "params": params})
        )
        while (message := self._next()).get("id") != self._last:
            self._note(message.get("method"), message.get("params", {}))
        return message

    def _next(self) -> dict[str, Any]:
        return json.loads(self._loop.run_until_complete(self._receive()))

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.write_message(json.dumps(message))

    async def _receive(self) -> Any:
        return await asyncio.wait_for(self._socket.read_message(), LONG)

    def _note(self, method: str | None, params: dict[str, Any]) -> None:
        self._loaded = self._loaded or method == "Page.loadEventFired"
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        if method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def log_in(self, credentials: str) -> None:
        word = base64.b64encode(credentials.encode()).decode()
        self.call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {word}"})

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self._loaded = False
        self.call("Page.navigate", url=url)
        while not self._loaded:
            message = self._next()
            self._note(message.get("method"), message.get("params", {}))

    def run(self, script: str) -> Any:
        """Run a script; returns its value."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait in the page until a script's value is true."""
        frame = f"""new Promise((resolve, reject) => {{
            const until = performance.now() + {1000 * LONG - 5000};
            (function look() {{
                if ({condition}) {{ resolve(true); }}
                else if (performance.now() > until) {{
                    reject(document.body.innerText.slice(0, 3000));
                }}
                else {{ setTimeout(look, 20); }}
            }}());
        }})"""
        while True:
            said = self._ask(
                "Runtime.evaluate",
                {"expression": frame, "awaitPromise": True, "returnByValue": True},
            )
            if not any(word in said.get("error", {}).get("message", "") for word in GONE):
                break  # otherwise the page was left: ask the next one
        assert "error" not in said, said
        assert "exceptionDetails" not in said["result"], f"waited for {condition}\n{said['result']}"

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )

    @contextlib.contextmanager
    def slow(self) -> Iterator[None]:
        """Slow the network down within the block, and use no cache."""
        try:
            self._network(latency=150, bytes_per_second=60_000, cached=False)
            yield
        finally:
            self._network(latency=0, bytes_per_second=-1, cached=True)

    def _network(self, *, latency: int, bytes_per_second: int, cached: bool) -> None:
        self.call(
            "Network.emulateNetworkConditions",
            offline=False,
            latency=latency,
            downloadThroughput=bytes_per_second,
            uploadThroughput=bytes_per_second,
        )
        self.call("Network.setCacheDisabled", cacheDisabled=not cached)

    def shoot(self, path: Path, *, whole: bool = True) -> None:
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(picture["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A Chromium with a profile of its own in `folder`."""
    program = (
        find("chromium", [])
        or find("chromium-browser", [])
        or find("google-chrome", [])
        or missing("chromium")
    )
    command = [
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={folder}/profile",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "about:blank",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    loop = asyncio.new_event_loop()
    try:
        yield Browser(loop, _port(process))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        loop.close()


def _port(process: subprocess.Popen[bytes]) -> int:
    """The port of its debugging protocol, which it writes to a file when it listens."""
    for line in process.stderr or ():
        if found := re.search(rb"DevTools listening on ws://[^:]+:(\d+)/", line):
            threading.Thread(
                target=collections.deque, args=(process.stderr, 0), daemon=True
            ).start()  # read on
            return int(found[1])
    return pytest.fail("chromium did not start", pytrace=False)
