"""The NAV records of embedded companies as PostgreSQL tables.

One generic table holds the records of every NAV table. NAV is a system of its own, so nothing here refers
to the tables of our memory; `company_id` is only a number that keeps companies apart.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "pk": "%(table_name)s_pkey",
    }
)

TIMESTAMP = DateTime(timezone=True)

# Writers of a company's records share this advisory lock until they commit; who reads changes takes it
# alone for an instant. 5151 is the number of NAV's Integration Record table.
LOCK_CLASS = 5151

row_version = Sequence("nav_row_version", metadata=metadata)

# `fields` holds the values that are not blank. `row_version` and `modified_at` are set by a trigger, when a
# value, the key, the integration id or `touched` really changes.
nav_record = Table(
    "nav_record",
    metadata,
    Column("company_id", Integer, primary_key=True, autoincrement=False),
    Column("nav_table", Text, primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("integration_id", Uuid),
    Column("fields", JSONB, nullable=False),
    Column("row_version", BigInteger, nullable=False),
    Column("modified_at", TIMESTAMP, nullable=False),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now()),
    # Raised when a line of the record changes.
    Column("touched", Integer, nullable=False, server_default="0"),
    UniqueConstraint("company_id", "nav_table", "integration_id"),
)
Index(
    "nav_record_changes_idx",
    nav_record.c.company_id,
    nav_record.c.nav_table,
    nav_record.c.row_version,
    postgresql_where=text("integration_id IS NOT NULL"),
)
Index(
    "nav_record_contact_company_idx",
    nav_record.c.company_id,
    text("(fields ->> 'Company_No')"),
    postgresql_where=text("nav_table = 'contacts'"),
)
Index(
    "nav_record_relation_contact_idx",
    nav_record.c.company_id,
    text("(fields ->> 'Contact_No')"),
    postgresql_where=text("nav_table = 'contact-business-relations'"),
)
Index(
    "nav_record_relation_no_idx",
    nav_record.c.company_id,
    text("(fields ->> 'No')"),
    postgresql_where=text("nav_table = 'contact-business-relations'"),
)
Index(
    "nav_record_price_code_idx",
    nav_record.c.company_id,
    text("(fields ->> 'Sales_Code')"),
    postgresql_where=text("nav_table = 'sales-prices'"),
)

nav_tombstone = Table(
    "nav_tombstone",
    metadata,
    Column("company_id", Integer, primary_key=True, autoincrement=False),
    Column("nav_table", Text, primary_key=True),
    Column("integration_id", Uuid, primary_key=True),
    Column("key", Text(collation="C"), nullable=False),
    Column("row_version", BigInteger, nullable=False),
    Column("deleted_at", TIMESTAMP, nullable=False),
)
Index(
    "nav_tombstone_changes_idx",
    nav_tombstone.c.company_id,
    nav_tombstone.c.nav_table,
    nav_tombstone.c.row_version,
)

Index("nav_tombstone_deleted_at_idx", nav_tombstone.c.company_id, nav_tombstone.c.deleted_at)

# Up to which version deletions may be forgotten: changes after an older one are not known any more.
nav_horizon = Table(
    "nav_horizon",
    metadata,
    Column("company_id", Integer, primary_key=True, autoincrement=False),
    Column("nav_table", Text, primary_key=True),
    Column("row_version", BigInteger, nullable=False),
)

nav_number_series = Table(
    "nav_number_series",
    metadata,
    Column("company_id", Integer, primary_key=True, autoincrement=False),
    Column("nav_table", Text, primary_key=True),
    Column("prefix", Text, nullable=False),
    Column("digits", Integer, nullable=False),
    Column("increment", Integer, nullable=False),
    Column("last", BigInteger, nullable=False),
)

# Sums over ledgers that the embedded company does not keep: beside the record, so that they never change
# its version.
nav_figures = Table(
    "nav_figures",
    metadata,
    Column("company_id", Integer, primary_key=True, autoincrement=False),
    Column("nav_table", Text, primary_key=True),
    Column("key", Text(collation="C"), primary_key=True),
    Column("figures", JSONB, nullable=False),
)
