"""Types of columns that all four databases store and compare alike, for the tables of the driver,
the store and limits.

Migrations keep copies of their own: they say what was, and this says what is.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, String, Text
from sqlalchemy.dialects.mysql import LONGTEXT

#: The longest name, in characters.
LONGEST_NAME = 255

# Names are exact: PostgreSQL's "C" compares bytes and is the fastest to walk; MySQL's and MariaDB's
# exact collations have different names, which the migration picks.
Name = String(LONGEST_NAME).with_variant(String(LONGEST_NAME, collation="C"), "postgresql")
Id = BigInteger().with_variant(Integer, "sqlite")
LongText = Text().with_variant(LONGTEXT, "mysql", "mariadb")
