"""Answers that stream a file from a disk, also from the byte where an earlier download broke off.

A whole file is 200, one range of it 206, a range beyond its end 416 (RFC 9110). A request for
several ranges, or for a range of a file that has changed (`If-Range`), gets the whole file. Every
file is an attachment, so a browser saves it: an uploaded page must not run under our address.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import HTTPException, Request
from fastapi.responses import Response, StreamingResponse

from relevo.disks import MissingFileError
from relevo.errors import DiskError
from tasks import storage

CHUNK_BYTES = 256 * 1024
#: Further answers of a download, for OpenAPI.
RANGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    206: {"description": "A part of the file"},
    416: {"description": "There is no such part"},
}
# Up to 18 digits: no file is larger.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def stream_file(request: Request, disk: str, path: str, name: str | None = None) -> Response:
    """The answer to a request for a file. A browser saves it under `name`."""
    try:
        file = storage.disk(disk).open(path)
    except MissingFileError as error:
        raise HTTPException(404, "the file is gone") from error
    except DiskError as error:
        raise HTTPException(400, str(error)) from error
    except OSError as error:
        raise HTTPException(
            503, "the disk can't be reached just now; try again", {"Retry-After": "5"}
        ) from error
    size = file.seek(0, io.SEEK_END)
    shown = quote(name or path.rpartition("/")[2], safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{shown}",
        "Accept-Ranges": "bytes",
        "ETag": etag(file, size),
    }
    try:
        part = requested_range(request, size, headers["ETag"])
    except ValueError as error:
        file.close()
        raise HTTPException(
            416,
            f"expected a range of the file's {size:,} bytes",
            {"Content-Range": f"bytes */{size}"},
        ) from error
    first, length = part or (0, size)
    headers["Content-Length"] = str(length)
    if part is not None:
        headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(None, status, headers, "application/octet-stream")
    return StreamingResponse(
        _pieces(file, first, length), status, headers, "application/octet-stream"
    )


def requested_range(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """The first byte of the requested range, and its length. None: the whole file.

    Raises ValueError for a range beyond the end.
    """
    if request.headers.get("if-range", tag) != tag:
        return None
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or not any(found.groups()):  # RFC 9110: ignore a range that is not understood
        return None
    first, last = found.groups()
    if not first:  # `-500`: the last 500 bytes
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise ValueError(first)
    return start, end - start


def etag(file: BinaryIO, size: int) -> str:
    """A hash of the file's size and of its first and last bytes. That is enough to see a change:
    files are written as a whole.
    """
    file.seek(0)
    digest = hashlib.sha256(f"{size}\n".encode() + file.read(CHUNK_BYTES))
    file.seek(max(size - CHUNK_BYTES, 0))
    digest.update(file.read(CHUNK_BYTES))
    return f'"{digest.hexdigest()[:32]}"'


def _pieces(file: BinaryIO, first: int, length: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while piece := file.read(min(CHUNK_BYTES, length)):
            length -= len(piece)
            yield piece
