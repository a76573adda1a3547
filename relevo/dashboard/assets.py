"""Our templates and static files laid over Flower's: what we have is ours, the rest is Flower's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.template import BaseLoader, Template
from tornado.web import StaticFileHandler

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"
#: Static files of ours have names that begin with it.
OURS = "relevo/"


class Overlay(BaseLoader):
    """Looks for a template in several folders, the first that has it wins. Names are not relative
    to one another.
    """

    def __init__(self, *folders: Path, **options: Any) -> None:
        super().__init__(**options)
        self._folders = folders

    def resolve_path(self, name: str, parent_path: str | None = None) -> str:
        """Tornado would take `base.html` in `relevo/failed.html` for `relevo/base.html`."""
        del parent_path
        return name

    def _create_template(self, name: str) -> Template:
        found = next((folder / name for folder in self._folders if (folder / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(name)
        return Template(found.read_bytes(), name=name, loader=self)


class Static(StaticFileHandler):
    """Serves our files beside Flower's, with the hash of their text in the url."""

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        return super().get_absolute_path(str(STATIC) if path.startswith(OURS) else root, path)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        ours = Path(absolute_path).is_relative_to(STATIC)
        return super().validate_absolute_path(str(STATIC) if ours else root, absolute_path)
