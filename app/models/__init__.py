"""The application's tables. `session()` opens a transaction; Alembic (`migrations/`) makes them."""

from app.models.base import Base
from app.models.cases import Case
from app.models.catalog import (
    Category,
    Distributor,
    Product,
    Store,
    StoreCategory,
    StoreProduct,
    StoreVariant,
    Variant,
)
from app.models.documents import Export, Import, ImportRow, Report, State
from app.models.events import Attendee, Event
from app.models.files import File, FileBatch, FileVersion
from app.models.mails import Mail
from app.models.orders import Order, OrderLine
from app.models.requests import Answer, RequestCount
from app.models.session import (
    UnitOfWork,
    join_unit,
    read_connection,
    separate_session,
    session,
    undo_on_rollback,
)
from app.models.users import Token, User
from app.models.webhooks import Delivery, Webhook

__all__ = [
    "Answer",
    "Attendee",
    "Base",
    "Case",
    "Category",
    "Delivery",
    "Distributor",
    "Event",
    "Export",
    "File",
    "FileBatch",
    "FileVersion",
    "Import",
    "ImportRow",
    "Mail",
    "Order",
    "OrderLine",
    "Product",
    "Report",
    "RequestCount",
    "State",
    "Store",
    "StoreCategory",
    "StoreProduct",
    "StoreVariant",
    "Token",
    "UnitOfWork",
    "User",
    "Variant",
    "Webhook",
    "join_unit",
    "read_connection",
    "separate_session",
    "session",
    "undo_on_rollback",
]
