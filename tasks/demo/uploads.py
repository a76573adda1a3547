"""Stores a picture as a file of the demo's user: its bytes on the local disk, and a row."""

from __future__ import annotations

import mimetypes
import re
import secrets
from pathlib import PurePath
from typing import BinaryIO

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.models import File, User, session
from tasks import storage

EMAIL = "demo@example.com"


def demo_user() -> int:
    """The id of the demo's user. The first run makes the user."""
    with session() as db:
        if found := db.scalars(select(User.id).filter_by(email=EMAIL)).first():
            return found
    try:
        with session() as db:
            db.add(User(name="Demo", email=EMAIL))
    except IntegrityError:  # another demo was faster
        pass
    return demo_user()


def store(user_id: int, name: str, source: BinaryIO) -> int:
    """Put `source` on the disk under a random name. Returns the id of its row."""
    path = f"uploads/{secrets.token_hex(8)}{_suffix(name)}"
    size = storage.disk(storage.LOCAL).put(path, source)
    mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # A file system allows any bytes in a name, a database only text.
    shown = name.encode(errors="replace").decode()[-255:]
    with session() as db:
        file = File(
            user_id=user_id,
            disk=storage.LOCAL,
            path=path,
            original_name=shown,
            mime=mime,
            size=size,
        )
        db.add(file)
        db.flush()
        return file.id


def _suffix(name: str) -> str:
    suffix = PurePath(name).suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""
