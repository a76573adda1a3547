"""Links to files that expire: a url with its expiry time, and a signature over all of it.

make   returns  https://shop.example/files/reports/7.pdf?expires=1760000000&name=July.pdf&signature=…
check  returns  the name to save the file under, or raises LinkError
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
    """Makes and checks links below `base`. Anyone who has `secret` can make them."""

    base: str
    secret: bytes = field(repr=False)

    def make(self, path: str, seconds: float, name: str | None = None) -> str:
        """Return the url of `path`, valid for `seconds`."""
        fields = {"expires": str(int(clock.now() + seconds))} | ({"name": name} if name else {})
        query = urlencode({**fields, "signature": self._signature(path, fields)})
        return f"{self.base}/{quote(path)}?{query}"

    def check(self, path: str, query: Mapping[str, str]) -> str | None:
        """Check a link, and return the name to save its file under, if it has one.

        Raises LinkError for a changed or an expired link.
        """
        fields = {key: query[key] for key in ("expires", "name") if key in query}
        given = query.get("signature", "")
        if not hmac.compare_digest(given.encode(), self._signature(path, fields).encode()):
            raise LinkError("the link's signature doesn't fit: it was changed on its way")
        if int(fields["expires"]) < clock.now():
            raise LinkError("the link has expired; ask for a new one")
        return fields.get("name")

    def _signature(self, path: str, fields: Mapping[str, str]) -> str:
        text = urlencode({"path": path, **fields})  # escaped, so that no part runs into the next
        return hmac.new(self.secret, f"link?{text}".encode(), hashlib.sha256).hexdigest()
