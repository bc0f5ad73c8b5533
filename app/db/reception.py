"""Who comes and which company it is about: what every request begins with, in one statement for any number of them.

They are asked for as JSON because PostgreSQL takes a set of it for equally large whatever it holds: so the statement is
planned once for a connection. With arrays it planned anew each time, which took longer than to carry it out.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    LargeBinary,
    Row,
    Select,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.api_keys import key_of
from app.db.arrays import json_text
from app.db.companies import company_of
from app.db.secrets import Vault
from app.db.tables import api_key, company, crm_connection
from app.db.tables import integration_table_mapping as mapping
from app.ports import Arrival

Asked = tuple[bytes | None, str | None]

_asked = (
    func.json_to_recordset(cast(bindparam("asked", type_=Text), JSON))
    .table_valued(column("hash", LargeBinary), column("name", Text), name="asked")
    .render_derived(with_types=True)
)
# One by one, by the index: PostgreSQL takes the set for a hundred, and would read small tables whole.
_key = (
    select(api_key)
    .where(api_key.c.hash == _asked.c.hash, api_key.c.revoked_at.is_(None))
    .correlate(_asked)
    .limit(1)
    .lateral("key")
)
_company = select(company).where(company.c.name == _asked.c.name).correlate(_asked).limit(1).lateral("about")
# A change of any setting gives its revision another value, and a new one begins with a random value.
_mappings = (
    select(
        func.string_agg(
            func.concat(mapping.c.name, " ", mapping.c.revision),
            aggregate_order_by(literal_column("','"), mapping.c.name),
        )
    )
    .where(mapping.c.company_id == _company.c.id)
    .correlate(_company)
    .scalar_subquery()
)
_settings = func.concat(crm_connection.c.revision, ";", _mappings).label("settings")


class _Part:
    """Some columns of a statement, in which those of other tables have the same names."""

    def __init__(self, start: int, columns: Sequence[ColumnElement[Any]]) -> None:
        self._place = slice(start, start + len(columns))
        self._names = [str(column.key) for column in columns]

    def of(self, row: Row[Any]) -> Any:
        """What the row says there, by the names of the columns; None if there is no such row."""
        values = row[self._place]
        return None if values[0] is None else SimpleNamespace(**dict(zip(self._names, values, strict=True)))


_asked_columns = (_asked.c.hash.label("asked_hash"), _asked.c.name.label("asked_name"))
_key_columns = tuple(_key.c)
_company_columns = (
    *_company.c,
    crm_connection.c.is_enabled,
    crm_connection.c.user_mapping_required,
    _settings,
)
_KEY = _Part(len(_asked_columns), _key_columns)
_COMPANY = _Part(len(_asked_columns) + len(_key_columns), _company_columns)
_SELECT: Select[Any] = select(*_asked_columns, *_key_columns, *_company_columns).select_from(
    _asked.outerjoin(_key, true())
    .outerjoin(_company, true())
    .outerjoin(crm_connection, crm_connection.c.company_id == _company.c.id)
)


class SqlReception:
    """Receives callers."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def of(self, asked: Collection[Asked]) -> Mapping[Asked, Arrival]:
        """For each hash and name the key, unless it was revoked, and the company with its `settings`, except where a
        hash is nobody's."""
        # No company has such a name, and PostgreSQL takes no text with a NUL.
        names = [None if name is None or "\0" in name else name for _, name in asked]
        hashes = [None if hash is None else f"\\x{hash.hex()}" for hash, _ in asked]
        given = [{"hash": hash, "name": name} for hash, name in zip(hashes, names, strict=True)]
        rows = {
            (None if row[0] is None else bytes(row[0]), row[1]): row
            for row in await self._connection.execute(_SELECT, {"asked": json_text(given)})
        }
        return {each: self._arrival(rows[each[0], name]) for each, name in zip(asked, names, strict=True)}

    def _arrival(self, row: Row[Any]) -> Arrival:
        key = _KEY.of(row)
        is_stranger = row[0] is not None and key is None  # learns nothing, not even that something is wrong
        about = None if is_stranger else _COMPANY.of(row)
        return Arrival(
            None if key is None else key_of(key),
            None if about is None else replace(company_of(about, self._vault), settings=about.settings),
        )
