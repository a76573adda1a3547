"""The bodies of requests and answers. An unknown field in a request is an error."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, EmailStr, Field, StringConstraints

from web.access import ABILITIES, EVERYTHING

LARGEST_ID = 2**31 - 1


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


def _storable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode("utf-8", "replace").decode()):
        raise ValueError("expected a text without NUL and lone surrogates")
    return text


def _datable(moment: datetime) -> datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected a moment that has a date in UTC") from error


Id = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Printable = AfterValidator(_printable)
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255), Printable
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_storable)]
Ability = Literal[(EVERYTHING, *ABILITIES)]  # type: ignore[valid-type]
SizeName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,39}$")]
Edge = Annotated[int, Field(ge=1, le=8192)]
Sizes = Annotated[
    dict[SizeName, Edge], Field(min_length=1, max_length=20, examples=[{"thumbnail": 150}])
]


class RequestBody(BaseModel):
    """The JSON body of a request."""

    model_config = ConfigDict(extra="forbid")


def example(**fields: Any) -> ConfigDict:
    """The configuration of a model with one example for OpenAPI."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Login(RequestBody):
    model_config = example(
        email="ada@example.com",
        password="correct horse battery",  # noqa: S106  an example
        abilities=["files"],
        days=7,
    )

    email: EmailStr
    password: Annotated[str, Field(min_length=1, max_length=1000)]
    name: Line = "api"
    abilities: Annotated[list[Ability], Field(min_length=1, max_length=len(ABILITIES))] = [
        EVERYTHING
    ]
    days: Annotated[int, Field(ge=1, le=365)] = 30


class NewUser(RequestBody):
    model_config = example(
        name="Zoë",
        email="zoe@example.com",
        password="long enough, really",  # noqa: S106  an example
    )

    name: Line
    email: EmailStr
    password: Annotated[str, Field(min_length=12, max_length=1000)] | None = None


class ProcessImage(RequestBody):
    model_config = example(sizes={"thumbnail": 150, "large": 1024})

    sizes: Sizes | None = None


class Notification(RequestBody):
    model_config = example(subject="Hello", message="The pictures are ready.", delay_minutes=5)

    subject: Line
    message: Text
    template: Literal["notification", "announcement"] = "notification"
    delay_minutes: Annotated[int, Field(ge=0, le=1440)] = 0


class NewReport(RequestBody):
    model_config = example(type="system-health", format="pdf")

    type: Literal["user-activity", "file-statistics", "system-health"]
    format: Literal["json", "csv", "pdf", "xlsx"] = "json"


class FileBatchGiven(RequestBody):
    model_config = example(file_ids=[1, 2, 3], sizes={"thumbnail": 150})

    file_ids: Annotated[list[Id], Field(min_length=1, max_length=50, examples=[[1, 2, 3]])]
    sizes: Sizes | None = None


class NewCase(RequestBody):
    model_config = example(number="AZ 7/24")

    number: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64), Printable
    ]


class NewStore(RequestBody):
    model_config = example(distributor_id=1, name="Corner shop")

    distributor_id: Id
    name: Line


class OrderLineGiven(RequestBody):
    model_config = example(product_id=1, quantity=2)

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=10_000)]


class NewOrder(RequestBody):
    model_config = example(
        store_id=1, lines=[{"product_id": 1, "quantity": 2}], shipping="Ada\n1 Main Street"
    )

    store_id: Id
    lines: Annotated[list[OrderLineGiven], Field(min_length=1, max_length=100)]
    shipping: Text | None = None


class NewEvent(RequestBody):
    model_config = example(name="July", starts_at="2030-07-01T10:00:00+02:00", capacity=100)

    name: Line
    starts_at: Annotated[datetime, AfterValidator(_datable)]
    capacity: Annotated[int, Field(ge=1, le=1_000_000)]


class NewAttendee(RequestBody):
    model_config = example(name="Ada", email="ada@example.com")

    name: Line
    email: EmailStr


class NewExport(RequestBody):
    model_config = example(format="xlsx")

    format: Literal["csv", "xlsx", "pdf", "json"] = "csv"


class NewWebhook(RequestBody):
    model_config = example(url="https://example.com/hook", body={"event": "order.paid", "id": 7})

    url: Annotated[str, StringConstraints(min_length=8, max_length=2000)]
    body: dict[str, Any] = Field(examples=[{"event": "order.paid", "id": 7}])


class Accepted(BaseModel):
    """A job was dispatched. `id` is the id of the row that it is about."""

    id: int | str
    job: str | None
    queue: str


class Dispatched(BaseModel):
    file: int
    job: str
    queue: str
