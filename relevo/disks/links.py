"""Links to files that end: a url with the moment of its end in it, and a signature over all of it.

made -> https://shop.example/files/reports/7.pdf?expires=1760000000&name=July.pdf&signature=…
                                                                checked -> the path and the name, or
                                                                a LinkError
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from relevo import clock
from relevo.errors import LinkError


@dataclass(frozen=True, slots=True)
class Links:
    """Links below `base`. Whoever has `secret` can make them."""

    base: str
    secret: bytes = field(repr=False)

    def make(self, path: str, seconds: float, name: str | None = None) -> str:
        """The url of `path`, good for `seconds`."""
        said = {"expires": str(int(clock.now() + seconds))} | ({"name": name} if name else {})
        query = urlencode({**said, "signature": self._signature(path, said)})
        return f"{self.base}/{quote(path)}?{query}"

    def check(self, path: str, query: Mapping[str, str]) -> str | None:
        """The name that the file of this link is to be saved under, if it has one. Raises
        LinkError.
        """
        said = {key: query[key] for key in ("expires", "name") if key in query}
        given = query.get("signature", "")
        if not hmac.compare_digest(given.encode(), self._signature(path, said).encode()):
            raise LinkError("the link's signature doesn't fit: it was changed on its way")
        if int(said["expires"]) < clock.now():
            raise LinkError("the link has expired; ask for a new one")
        return said.get("name")

    def _signature(self, path: str, said: Mapping[str, str]) -> str:
        text = urlencode({"path": path, **said})  # escaped, so that no part can run into the next
        return hmac.new(self.secret, f"link?{text}".encode(), hashlib.sha256).hexdigest()
