"""One mail as a value, checked when it is made. `mime` makes its message of text and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, parseaddr

from relevo import clock
from relevo.errors import MailError

LONGEST_ADDRESS = 254
LONGEST_SUBJECT = 255
#: The start of an encoded word (RFC 2047).
_ENCODED = "=?"


@dataclass(frozen=True, slots=True)
class Message:
    """A mail to one address.

    `id` makes its Message-ID, so that a mail that was sent twice can be recognised.
    """

    to: str
    subject: str
    text: str
    html: str | None = None
    id: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        _check_address(self.to)
        if (
            not self.subject.strip()
            or not self.subject.isprintable()
            or len(self.subject) > LONGEST_SUBJECT
        ):
            raise MailError(
                f"expected a subject of one line, at most {LONGEST_SUBJECT} long, "
                f"got {self.subject!r:.80}"
            )

    def mime(self, sender: str) -> EmailMessage:
        """Return the message as it is sent."""
        mail = EmailMessage()
        mail["From"] = sender
        printable = "".join(letter for letter in self.name if letter.isprintable())
        mail["To"] = (
            Address(_without_encoded_words(printable), addr_spec=self.to)
            if self.to.isascii()
            else self.to
        )
        mail["Subject"] = _without_encoded_words(self.subject)
        mail["Date"] = formatdate(clock.now())
        if self.id:
            domain = parseaddr(sender)[1].rpartition("@")[2]
            mail["Message-ID"] = f"<{self.id}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # asks for no out-of-office reply
        mail.set_content(self.text)
        if self.html is not None:
            mail.add_alternative(self.html, subtype="html")
        return mail


def _without_encoded_words(text: str) -> str:
    """Return the text without the start of encoded words (RFC 2047).

    A header would decode them, with the line ends and further headers in them. (CVE-2024-6923:
    since 3.11.10 Python refuses such a header, and the mail would not be sent.)
    """
    return text.replace(_ENCODED, "= ?")


def _check_address(to: str) -> None:
    local, at, domain = to.rpartition("@")
    plain = (
        to.isprintable()
        and _ENCODED not in to
        and not any(letter in to for letter in ' ,;:<>()[]\\"')
    )
    if (
        not (local and at and domain)
        or not plain
        or len(to) > LONGEST_ADDRESS
        or ".." in to
        or to.count("@") != 1
    ):
        raise MailError(f"expected the address of a mail, got {to!r:.80}")
