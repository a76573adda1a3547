"""The application's tables. `session()` is the way to them; Alembic (`migrations/`) makes them."""

from app.models.base import Base
from app.models.files import File, FileVersion
from app.models.session import session
from app.models.users import User

__all__ = ["Base", "File", "FileVersion", "User", "session"]
