"""The texts of mails: each has two Jinja2 templates, like `welcome.txt` and `welcome.html`.

The first line of the text is `Subject: …`. Values are escaped in the HTML. A missing value is an
error, not an empty place in a mail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError, select_autoescape

from relevo.errors import MailError, did_you_mean

_SUBJECT = "Subject: "
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


class Templates:
    """The templates of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jinja = Environment(
            loader=FileSystemLoader(folder),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=select_autoescape(["html"], default_for_string=False),
        )

    def names(self) -> list[str]:
        """The names of the templates, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.txt"))

    def render(self, name: str, data: Mapping[str, Any]) -> dict[str, str]:
        """Return subject, text and HTML, as `Message` takes them. Raises MailError."""
        if not _NAME.fullmatch(name) or name not in self.names():
            raise MailError(f"no mail template named {name!r}{did_you_mean(name, self.names())}")
        try:
            # The subject is split off before rendering, because a value may have a line break.
            first, text = (self._jinja.from_string(part).render(data) for part in self._parts(name))
            html = self._jinja.get_template(f"{name}.html").render(data)
        except TemplateError as error:
            raise MailError(f"the mail template {name!r} can't be rendered: {error}") from error
        subject = " ".join(first.removeprefix(_SUBJECT).split())
        return {"subject": subject, "text": text.strip() + "\n", "html": html}

    def _parts(self, name: str) -> tuple[str, str]:
        first, _, text = (
            self._folder.joinpath(f"{name}.txt").read_text(encoding="utf-8").partition("\n")
        )
        if not first.startswith(_SUBJECT):
            raise MailError(
                f"expected the first line of {name}.txt to be {_SUBJECT!r} and a text, "
                f"got {first!r:.80}"
            )
        return first, text
