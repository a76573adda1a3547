"""Mail: a message of two templates (`templates.py`, `message.py`), sent by `sending.py`.

    texts = templates.render("welcome", {"name": "Ada"})
    mail.send(settings.mail, Message(to="ada@example.com", **texts))

An OSError is worth another try: the server is away, busy, or refuses our login for now. A MailError
is not: no address, a refused recipient, a missing template.
"""

from relevo.errors import MailError
from relevo.mail.message import Message
from relevo.mail.sending import send
from relevo.mail.templates import Templates

__all__ = ["MailError", "Message", "Templates", "send"]
