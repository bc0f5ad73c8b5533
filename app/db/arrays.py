"""Sets as one parameter: a statement keeps its text, whatever the size of the set."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import ColumnElement, Text, Uuid, bindparam, func
from sqlalchemy.dialects.postgresql import ARRAY

JsonRows = Sequence[Mapping[str, Any]]


def one_of_ids(column: ColumnElement[UUID], ids: Collection[UUID]) -> ColumnElement[bool]:
    """`column = any(ids)`."""
    return column == func.any(bindparam(None, list(ids), type_=ARRAY(Uuid)))


def one_of_texts(column: ColumnElement[str], texts: Collection[str]) -> ColumnElement[bool]:
    """`column = any(texts)`."""
    return column == func.any(bindparam(None, list(texts), type_=ARRAY(Text)))


def json_text(rows: JsonRows) -> str:
    """Rows as the JSON text that `json_to_recordset` reads."""
    return to_json(rows).decode()
