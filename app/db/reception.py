"""Who comes and which company it is about: what every request begins with, in one statement for any number of them."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    ARRAY,
    LargeBinary,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.api_keys import key_of
from app.db.companies import company_of
from app.db.secrets import Vault
from app.db.tables import api_key, company, crm_connection
from app.db.tables import integration_table_mapping as mapping
from app.ports import Arrival

Asked = tuple[bytes | None, str | None]

_asked = (
    func.unnest(bindparam("hashes", type_=ARRAY(LargeBinary)), bindparam("names", type_=ARRAY(Text)))
    .table_valued(column("hash", LargeBinary), column("name", Text), name="asked")
    .render_derived()
)
# A change of any setting gives its revision another value, and a new one begins with a random value.
_mappings = (
    select(
        func.string_agg(
            func.concat(mapping.c.name, " ", mapping.c.revision),
            aggregate_order_by(literal_column("','"), mapping.c.name),
        )
    )
    .where(mapping.c.company_id == company.c.id)
    .correlate(company)
    .scalar_subquery()
)
_settings = func.concat(crm_connection.c.revision, ";", _mappings).label("settings")
_connection = (crm_connection.c.is_enabled, crm_connection.c.user_mapping_required)
_SELECT: Select[Any] = select(
    _asked.c.hash.label("asked_hash"),
    _asked.c.name.label("asked_name"),
    *api_key.c,
    *company.c,
    *_connection,
    _settings,
).select_from(
    _asked.outerjoin(api_key, and_(api_key.c.hash == _asked.c.hash, api_key.c.revoked_at.is_(None)))
    .outerjoin(company, company.c.name == _asked.c.name)
    .outerjoin(crm_connection, crm_connection.c.company_id == company.c.id)
)


class SqlReception:
    """Receives callers."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def of(self, asked: Collection[Asked]) -> Mapping[Asked, Arrival]:
        """For each hash and name the key, unless it was revoked, and the company with its `settings`."""
        # No company has such a name, and PostgreSQL takes no text with a NUL.
        names = [None if name is None or "\0" in name else name for _, name in asked]
        given = {"hashes": [hash for hash, _ in asked], "names": names}
        rows = {
            (None if row.asked_hash is None else bytes(row.asked_hash), row.asked_name): row
            for row in await self._connection.execute(_SELECT, given)
        }
        return {each: self._arrival(rows[each[0], name]) for each, name in zip(asked, names, strict=True)}

    def _arrival(self, row: Row[Any]) -> Arrival:
        key = None if row._mapping[api_key.c.id] is None else key_of(_part(row, api_key))
        about = None
        if row._mapping[company.c.id] is not None:
            found = _part(row, company)
            found.is_enabled, found.user_mapping_required = (row._mapping[column] for column in _connection)
            about = replace(company_of(found, self._vault), settings=row.settings)
        return Arrival(key, about)


def _part(row: Row[Any], table: Table) -> Any:
    """What the row says of one of the tables, some of whose columns are named alike."""
    return SimpleNamespace(**{column.name: row._mapping[column] for column in table.c})
