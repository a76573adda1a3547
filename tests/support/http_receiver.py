"""A server on the loopback with given answers. It keeps the requests that it gets."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.support.waits import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """`answers` are (status, body, headers). Each is given once, the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[tuple[int, bytes, dict[str, str]]] = [(200, b"{}", {})]
        self.url = ""
        self.open = threading.Event()
        self.open.set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep callers waiting for their answers within the block."""
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    def say(self, *answers: Any) -> None:
        self.answers = [
            (one, b"{}", {}) if isinstance(one, int) else (*one, {})[:3] for one in answers
        ]

    def reply(self, _asked: Asked) -> tuple[int, bytes, dict[str, str]] | None:
        """The next answer; None closes the connection without one."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextlib.contextmanager
def receiving(kind: Any = Receiver) -> Iterator[Any]:
    """A server that answers like a receiver of this class."""
    receiver = kind()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.asked.append(asked := Asked(self.command, self.path, headers, body))
            receiver.open.wait(LONG)
            reply = receiver.reply(asked)
            if reply is None:
                self.close_connection = True
                return
            status, told, others = reply
            self.send_response(status)
            for name, value in {"Content-Length": str(len(told)), **others}.items():
                self.send_header(name, value)
            with contextlib.suppress(OSError):  # the caller may have been killed
                self.end_headers()
                self.wfile.write(told)

        do_POST = do_GET = answer  # noqa: N815 - http.server's names

        def log_message(self, *_words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
