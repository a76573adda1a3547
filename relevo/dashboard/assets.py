"""Templates and static files: Relevo's before Flower's of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.template import BaseLoader, Template
from tornado.web import StaticFileHandler

FOLDER = Path(__file__).parent
TEMPLATES, STATIC = FOLDER / "templates", FOLDER / "static"
#: Names of Relevo's static files begin with it.
PREFIX = "relevo/"


class OverlayLoader(BaseLoader):
    """Loads a template from the first of several folders that has it. Names are always relative to
    those folders.
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


class StaticFiles(StaticFileHandler):
    """Serves Relevo's files beside Flower's, with the hash of their content in the url."""

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        return super().get_absolute_path(str(STATIC) if path.startswith(PREFIX) else root, path)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        ours = Path(absolute_path).is_relative_to(STATIC)
        return super().validate_absolute_path(str(STATIC) if ours else root, absolute_path)
