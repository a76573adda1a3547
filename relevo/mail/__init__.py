"""Mail: a message of two templates (`templates.py`, `message.py`), handed to a server or to a
folder (`sending.py`).

    mail.send(settings.mail, Message(to="ada@example.com", **templates.render("welcome", {"name":
    "Ada"})))

What another try may mend is an OSError (the server is away, busy, or doesn't know us just now);
what it can't is a MailError: no address, a recipient who is refused, a template that isn't there.
"""

from relevo.errors import MailError
from relevo.mail.message import Message
from relevo.mail.sending import send
from relevo.mail.templates import Templates

__all__ = ["MailError", "Message", "Templates", "send"]
