"""An API whose process dies, as by kill -9, where a request says so; and another one takes its
place.

    python -m tests.support.crashing_api        prints its port

`Dies-At: 3` is the third of the moments before and after each commit of this request.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import socket
import sys

import httpx
import uvicorn
from sqlalchemy import event
from sqlalchemy.orm import Session, configure_mappers

from app.models import schema
from tests.support.programs import APPLICATION
from web import create, idempotency

#: Seconds that a second request with a key waits for the first.
WAIT_SECONDS = 3


def moment(_db: object) -> None:
    """Of a request with a key; it counts its moments."""
    current = idempotency._current.get()
    if current is None:
        return
    current.moments = getattr(current, "moments", 0) + 1
    if current.moments == int(current.hashed.request.headers.get("dies-at", 0)):
        os._exit(1)


async def ask_for_nothing(api: object) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url="http://here", verify=False
    ) as client:
        assert (await client.get("/nothing")).status_code == httpx.codes.NOT_FOUND


def main() -> None:
    idempotency.WAIT_SECONDS = WAIT_SECONDS
    schema.require = lambda _engine: (
        None
    )  # each process would look, and that takes longer than all the rest
    event.listen(Session, "before_commit", moment)
    event.listen(Session, "after_commit", moment)
    api = create()
    config = uvicorn.Config(api, log_level="critical", lifespan="off")
    # What each of the many processes would do first. (FastAPI makes the routes when it is asked for
    # one.)
    asyncio.run(ask_for_nothing(api))
    config.load()
    configure_mappers()
    for name in APPLICATION:
        importlib.import_module(name)
    gc.freeze()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sys.stdout.write(f"{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            if not os.fork():
                uvicorn.Server(config).run(sockets=[listening])
                os._exit(0)
            os.wait()


if __name__ == "__main__":
    sys.exit(main())
