"""A disk in a bucket: Amazon's S3, or any server with the same protocol.

obstore, a binding of Rust's object_store, does the work: uploads of any size in parts and in
bounded memory, retries of passing errors, and links that are signed without a request. What the
bucket can't do now is an OSError, as on every disk.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, BinaryIO, cast

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from relevo.config.services import S3Settings
from relevo.disks.disk import MissingFileError, check_path
from relevo.errors import DiskError

CHUNK_BYTES = 1024 * 1024
#: A file that is read lies in memory up to this size, and beyond it in a temporary file.
IN_MEMORY_BYTES = 8 * CHUNK_BYTES
#: The longest validity of a signature of S3.
LONGEST_LINK = timedelta(days=7)
#: A few quick tries; the job's own backoff waits for longer outages. (obstore's default is three
#: minutes.)
_RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class S3Disk:
    """A disk in a bucket, below `settings.prefix`."""

    def __init__(self, settings: S3Settings) -> None:
        given = {
            "region": settings.region,
            "endpoint": settings.endpoint,
            "access_key_id": settings.key,
            "secret_access_key": settings.secret,
        }
        config: Any = {name: value for name, value in given.items() if value}
        plain: Any = {"allow_http": True} if (settings.endpoint or "").startswith("http://") else {}
        self._store = S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            config=config,
            client_options=plain,
            retry_config=_RETRIES,
        )

    def put(self, path: str, source: BinaryIO | bytes) -> int:
        file = io.BytesIO(source) if isinstance(source, bytes) else _from_start(source)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        with _translate_errors(path):
            obstore.put(self._store, check_path(path), cast("Any", file))
        return size

    @contextlib.contextmanager
    def staged(self, path: str, source: BinaryIO | bytes) -> Iterator[Callable[[], object]]:
        yield lambda: self.put(path, source)  # a bucket can't rename

    def open(self, path: str) -> BinaryIO:
        file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  the caller closes it
        with _translate_errors(path):
            for chunk in obstore.get(self._store, check_path(path)).stream(
                min_chunk_size=CHUNK_BYTES
            ):
                file.write(chunk)
        file.seek(0)
        return cast("BinaryIO", file)

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except MissingFileError:
            return False
        return True

    def size(self, path: str) -> int:
        with _translate_errors(path):
            return int(obstore.head(self._store, check_path(path))["size"])

    def delete(self, path: str) -> None:
        with contextlib.suppress(MissingFileError), _translate_errors(path):
            obstore.delete(self._store, check_path(path))

    # S3 names the saved file after the end of its path, so `name` isn't used.
    def link(self, path: str, seconds: float, name: str | None = None) -> str:  # noqa: ARG002
        length = timedelta(seconds=seconds)
        if length > LONGEST_LINK:
            raise DiskError(f"expected a link for at most {LONGEST_LINK.days} days, got {length}")
        with _translate_errors(path):
            return str(obstore.sign(self._store, "GET", check_path(path), length))


def _from_start(source: BinaryIO) -> BinaryIO:
    """Return the rest of `source` as a file that starts at 0.

    obstore seeks in a file to learn its size.
    """
    if source.seekable() and not source.tell():
        return source
    copy = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115  closed when it is collected
    shutil.copyfileobj(source, copy, CHUNK_BYTES)
    copy.seek(0)
    return cast("BinaryIO", copy)


@contextlib.contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Turn obstore's errors into those of a disk."""
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, NotFoundError | FileNotFoundError) and "NoSuchBucket" not in str(
            error
        ):
            raise MissingFileError(f"there is no file {path!r} on the disk") from error
        raise OSError(f"the bucket could not do it: {str(error).splitlines()[0][:300]}") from error
