"""Routes of files: upload, process, watch a batch, download."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, BinaryIO, TypeVar

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from app import settings
from app.models import File, FileBatch, FileVersion, session
from relevo import clock
from relevo.disks import LinkError
from tasks import app, files, images, storage
from tasks.dispatch import dispatch_in
from web import access, idempotency
from web.access import Caller
from web.downloads import RANGE_RESPONSES, stream_file
from web.idempotency import IdempotentRoute
from web.pagination import After, Limit, Page, page
from web.schemas import Accepted, Dispatched, FileBatchGiven, Id, ProcessImage

router = APIRouter(tags=["files"], route_class=IdempotentRoute)
AuthorizedCaller = Annotated[Caller, Depends(access.require_ability("files"))]
FIELDS = ("original_name", "mime", "size", "processed_at", "error", "created_at")
Stored = TypeVar("Stored")
IN_MEMORY = 1024 * 1024


class Uploaded(BaseModel):
    id: int
    name: str
    mime: str
    size: int


class BatchStatus(BaseModel):
    id: str
    name: str
    total: int
    processed: int
    pending: int
    failed: int
    percent: int
    finished: bool
    cancelled: bool
    created_at: datetime
    finished_at: datetime | None


@contextlib.contextmanager
def disk_errors_as_503() -> Iterator[None]:
    """Within the block, an error of the disk (it is full or away) is a 503."""
    try:
        yield
    except OSError as error:
        raise HTTPException(
            503, "the disk can't take it just now; try again", {"Retry-After": "5"}
        ) from error


async def receive(request: Request) -> BinaryIO:
    """The body of a request as a temporary file, in memory up to a megabyte. 413 when it is larger
    than APP_UPLOAD_LIMIT. The caller closes it.
    """
    with disk_errors_as_503(), contextlib.ExitStack() as unless_read:
        file = unless_read.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        if not await _copy(request, file, settings.application().upload_limit):
            raise HTTPException(
                400, "expected the bytes of a file as the body of the request, got nothing"
            )
        file.seek(0)
        unless_read.pop_all()
    return file  # type: ignore[return-value]


async def _copy(request: Request, file: Any, most: int) -> int:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"expected at most {most:,} bytes")
        await run_in_threadpool(file.write, part)
    return size


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
Name = Annotated[str, Query(min_length=1, max_length=255, description="What the file is called")]


def store_upload(
    store: Callable[[int, str, BinaryIO], Stored], caller: Caller, name: str, file: BinaryIO
) -> Stored:
    """Store an upload and close it."""
    with file, disk_errors_as_503():
        idempotency.check_unanswered()
        return store(caller.id, name, file)


@router.post("/api/files", status_code=201, openapi_extra=BODY)
async def upload(name: Name, request: Request, caller: AuthorizedCaller) -> Uploaded:
    """Upload a file: its bytes are the body, its name is in the url."""
    file = await run_in_threadpool(store_upload, files.store, caller, name, await receive(request))
    return Uploaded(id=file.id, name=file.original_name, mime=file.mime, size=file.size)


@router.get("/api/files")
def list_files(caller: AuthorizedCaller, limit: Limit = 50, after: After = None) -> Page:
    """One's own files."""
    return page(select(File).filter_by(user_id=caller.id), File, limit, after, FIELDS)


@router.get("/api/files/{file_id}")
def show_file(file_id: Id, caller: AuthorizedCaller) -> dict[str, Any]:
    """A file, its versions, and links to them."""
    with session() as db:
        file = access.get_own(db, File, file_id, caller)
        versions = [(version, version.path) for version in file.versions]
    disk = storage.disk(file.disk)
    return {
        **{name: getattr(file, name) for name in ("id", *FIELDS)},
        "versions": [
            {
                "name": one.name,
                "width": one.width,
                "height": one.height,
                "bytes": one.bytes,
                "link": disk.link(path, 3600),
            }
            for one, path in versions
        ],
    }


@router.head("/api/files/{file_id}/versions/{name}", include_in_schema=False)
@router.get(
    "/api/files/{file_id}/versions/{name}",
    response_class=StreamingResponse,
    responses=RANGE_RESPONSES,
)
def download(file_id: Id, name: str, request: Request, caller: AuthorizedCaller) -> Response:
    """The bytes of a version; `original` is the file itself. A `Range` gets a part of it."""
    with session() as db:
        file = access.get_own(db, File, file_id, caller)
        version = db.scalars(
            select(FileVersion).filter_by(file_id=file_id, name=name[:40])
        ).one_or_none()
    if version is None and name != "original":
        raise HTTPException(404, f"the file {file_id} has no version {name!r}")
    if version is None:
        return stream_file(request, file.disk, file.path, file.original_name)
    return stream_file(request, file.disk, version.path)


@router.post("/api/process-image/{file_id}", status_code=202)
def process_image(
    file_id: Id, caller: AuthorizedCaller, given: ProcessImage | None = None
) -> Dispatched:
    """Make the sizes of a picture."""
    with session() as db:
        file = access.get_own(db, File, file_id, caller)
        if not file.mime.startswith("image/"):
            raise HTTPException(400, f"the file {file_id} is no image but {file.mime}")
        if file.processed_at is not None:
            raise HTTPException(400, f"the file {file_id} was processed already")
        sizes = given.sizes if given else None
        result = dispatch_in(db, images.process, file_id, sizes, file.user_id)
    return Dispatched(file=file_id, job=result.id, queue="default")


@router.post("/api/batch-process-files", status_code=202)
def process_files(given: FileBatchGiven, caller: AuthorizedCaller) -> Accepted:
    """Process 1 to 50 of one's files as one batch."""
    with session() as db:
        own = set(
            db.scalars(
                select(File.id).where(File.id.in_(given.file_ids), File.user_id == caller.id)
            )
        )
    if others := sorted(set(given.file_ids) - own):
        raise HTTPException(400, f"expected one's own files, got {others}")
    if len(own) < len(given.file_ids):
        raise HTTPException(400, "expected each file once")
    return Accepted(
        id=files.process_batch(caller.id, given.file_ids, given.sizes), job=None, queue="default"
    )


@router.get("/api/batch/{batch_id}/status")
def batch_status(batch_id: str, caller: AuthorizedCaller) -> BatchStatus:
    """How far a batch is."""
    with session() as db:
        row = db.get(FileBatch, batch_id[:64].replace("\0", ""))
    batch = app.batches.find(row.id) if row is not None else None
    if row is None or batch is None:
        raise HTTPException(404, f"there is no batch {batch_id!r}")
    if row.user_id != caller.id and not caller.admin:
        raise HTTPException(403, "the batch is another user's")
    return BatchStatus(
        id=batch.id,
        name=batch.name,
        total=batch.total,
        processed=batch.processed,
        pending=batch.pending,
        failed=batch.failed,
        percent=batch.percent,
        finished=batch.finished,
        cancelled=batch.cancelled,
        created_at=clock.utc(batch.created_at),
        finished_at=clock.utc(batch.finished_at) if batch.finished_at is not None else None,
    )


@router.head("/files/{path:path}", include_in_schema=False)
@router.get("/files/{path:path}", response_class=StreamingResponse, responses=RANGE_RESPONSES)
def fetch(path: str, request: Request) -> Response:
    """The file of a signed link. The signature replaces a token, until the link expires."""
    try:
        name = storage.links().check(path, dict(request.query_params))
    except (LinkError, ValueError) as error:
        raise HTTPException(403, str(error)) from error
    return stream_file(request, storage.LOCAL, path, name)
