"""Column types that all four databases store and compare alike.

The tables of the driver, the store and limits use them. Migrations have copies of their own, since
they describe the tables as they once were.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.dialects.mysql import LONGTEXT

#: The longest name, in characters.
LONGEST_NAME = 255

# Names are compared exactly. PostgreSQL's "C" compares bytes and has the fastest index; the exact
# collations of MySQL and MariaDB differ in name, so the migration picks one.

Name = String(LONGEST_NAME).with_variant(String(LONGEST_NAME, collation="C"), "postgresql")
Id = BigInteger().with_variant(Integer, "sqlite")
LongText = Text().with_variant(LONGTEXT, "mysql", "mariadb")
