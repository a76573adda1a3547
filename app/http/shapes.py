"""What the API is given, and what it answers, by the names of their fields. A field that nobody knows is an error."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, StringConstraints

from app.http.access import ABILITIES, EVERYTHING

BIGGEST = 2**31 - 1


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


def _storable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode("utf-8", "replace").decode()):
        raise ValueError("expected a text without NUL and lone surrogates")
    return text


Id = Annotated[int, Field(ge=1, le=BIGGEST)]
Printable = AfterValidator(_printable)
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), Printable]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_storable)]
Ability = Literal[(EVERYTHING, *ABILITIES)]  # type: ignore[valid-type]
SizeName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,39}$")]
Edge = Annotated[int, Field(ge=1, le=8192)]
Sizes = Annotated[dict[SizeName, Edge], Field(min_length=1, max_length=20, examples=[{"thumbnail": 150}])]


class Given(BaseModel):
    """What a request brings."""

    model_config = ConfigDict(extra="forbid")


class Login(Given):
    email: EmailStr
    password: Annotated[str, Field(min_length=1, max_length=1000)]
    name: Line = "api"
    abilities: Annotated[list[Ability], Field(min_length=1, max_length=len(ABILITIES))] = [EVERYTHING]
    days: Annotated[int, Field(ge=1, le=365)] = 30


class NewUser(Given):
    name: Line
    email: EmailStr
    password: Annotated[str, Field(min_length=12, max_length=1000)] | None = None


class ProcessImage(Given):
    sizes: Sizes | None = None


class Notification(Given):
    subject: Line
    message: Text
    template: Literal["notification", "announcement"] = "notification"
    delay_minutes: Annotated[int, Field(ge=0, le=1440)] = 0


class NewReport(Given):
    type: Literal["user-activity", "file-statistics", "system-health"]
    format: Literal["json", "csv", "pdf", "xlsx"] = "json"


class FileBatchGiven(Given):
    file_ids: Annotated[list[Id], Field(min_length=1, max_length=50, examples=[[1, 2, 3]])]
    sizes: Sizes | None = None


class NewCase(Given):
    number: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), Printable]


class NewStore(Given):
    distributor_id: Id
    name: Line


class OrderLineGiven(Given):
    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=10_000)]


class NewOrder(Given):
    store_id: Id
    lines: Annotated[list[OrderLineGiven], Field(min_length=1, max_length=100)]
    shipping: Text | None = None


class NewEvent(Given):
    name: Line
    starts_at: datetime
    capacity: Annotated[int, Field(ge=1, le=1_000_000)]


class NewAttendee(Given):
    name: Line
    email: EmailStr


class NewExport(Given):
    format: Literal["csv", "xlsx", "pdf", "json"] = "csv"


class NewWebhook(Given):
    url: Annotated[str, StringConstraints(min_length=8, max_length=2000)]
    body: dict[str, Any] = Field(examples=[{"event": "order.paid", "id": 7}])


class Accepted(BaseModel):
    """A job was dispatched. `id` is that of what it is about."""

    id: int | str
    job: str | None
    queue: str


class Dispatched(BaseModel):
    file: int
    job: str
    queue: str
