"""Rows of CRM: which columns to ask for, and what the answers say."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.crm.client import DataverseClient
from app.crm.metadata import CrmTable
from app.crm.odata import TARGET, Read, query, reader
from app.crm.wire import Answer, Request
from app.domain.errors import CrmRefused, CrmUnavailable, FieldProblem, InvalidMapping
from app.domain.records import FieldDefinition, FieldType, Snapshot, Value

ETAG = "@odata.etag"
NEXT = "@odata.nextLink"
MODIFIED = "modifiedon"
MISFITS = (ValueError, TypeError, AttributeError, ArithmeticError)
"""What readers raise when a value is not of the type that the metadata says."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Some attributes of an entity: how to select them and how to read them."""

    table: CrmTable
    select: str | None  # None: all
    answered: str  # what a write is to answer with: the id and the version come by themselves
    plain: tuple[str, ...]  # attributes whose value is the one that stands in the row
    readers: tuple[tuple[str, Read], ...]  # of all others
    annotated: bool  # whether the answers must say which entity a lookup points to

    def preferring(self, *preferences: str) -> str:
        """The Prefer header: these, and the annotations that the columns need."""
        annotations = (f'odata.include-annotations="{TARGET}"',) if self.annotated else ()
        return ",".join((*preferences, *annotations))

    def paged(self, size: int) -> dict[str, str]:
        """The header for pages of that size."""
        return {"Prefer": self.preferring(f"odata.maxpagesize={size}")}

    def snapshot(self, row: Mapping[str, Any], record_id: UUID | None = None) -> Snapshot:
        """The record that a row shows; `record_id` where it is known whose row it is.

        A value that does not fit its attribute makes the record unreadable, not the page. Raises CrmRefused
        for a row without an id of its own.
        """
        text = row.get(self.table.key)
        found = record_id or self._id(text)
        values: dict[str, Value] = {name: row.get(name) for name in self.plain}
        unreadable = None
        try:
            for name, read in self.readers:
                values[name] = read(row)
        except MISFITS:
            unreadable = self._read_fitting(values, row, found)
        return Snapshot(
            id=found,
            key=str(text or found),
            version=row.get(ETAG, ""),
            values=values,
            modified_at=_moment(row.get(MODIFIED)),
            unreadable=unreadable,
        )

    def _id(self, text: Any) -> UUID:
        try:
            return UUID(text)
        except MISFITS as error:
            raise self._misfit(text, self.table.key, text) from error

    def _read_fitting(
        self, values: dict[str, Value], row: Mapping[str, Any], record_id: UUID
    ) -> CrmRefused | None:
        """Adds the values that can be read; what is wrong with the first that cannot."""
        unreadable = None
        for name, read in self.readers:
            try:
                values[name] = read(row)
            except MISFITS:
                found = row.get(name, row.get(f"_{name}_value"))
                unreadable = unreadable or self._misfit(record_id, name, found)
        return unreadable

    def _misfit(self, record_id: object, name: str, found: object) -> CrmRefused:
        entity, field = self.table.name, self.table.field(name)
        kind = field.type.value if field is not None else FieldType.GUID.value
        return CrmRefused(
            f"CRM shows {found!r} in {name} of {entity} {record_id}, which is no {kind}.",
            fix=f"Correct {name} of that {entity} in CRM.",
            errors=[FieldProblem(f"/{name}", f"{found!r} is no {kind}.")],
            extra={"entity": entity, "crm_id": str(record_id), "attribute": name},
        )


def _moment(text: object) -> datetime | None:
    """When the row says it was changed; None where it says nothing that can be read."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def columns_of(table: CrmTable, fields: Collection[str] | None) -> Columns:
    """The columns for these attributes (logical names), or for all. Raises InvalidMapping for unknown ones."""
    if fields is None:
        found = list(table.definition.fields.values())
    else:
        found = _known(table, fields)
    sources = (table.lookup_of(field) if field.type is FieldType.ENTITY_NAME else field for field in found)
    shown = list(dict.fromkeys(table.property_of(source) for source in sources if source is not None))
    named = [table.key, *shown, *([MODIFIED] if table.field(MODIFIED) is not None else [])]
    readers = [(field.name, reader(table, field)) for field in found]
    return Columns(
        table=table,
        select=None if fields is None else ",".join(dict.fromkeys(named)),
        answered=",".join(shown) or table.key,
        plain=tuple(name for name, read in readers if read is None),
        readers=tuple((name, read) for name, read in readers if read is not None),
        annotated=any(_needs_annotation(field) for field in found),
    )


def _known(table: CrmTable, fields: Collection[str]) -> list[FieldDefinition]:
    unknown = [name for name in fields if table.field(name) is None]
    if unknown:
        raise InvalidMapping(
            f"CRM entity {table.name} has no attribute {', '.join(unknown)}.",
            fix=f"GET …/crm-entities/{table.entity_set} lists its attributes.",
            errors=[FieldProblem(f"/{name}", f"{table.name} has no attribute '{name}'") for name in unknown],
        )
    return [field for name in dict.fromkeys(fields) if (field := table.field(name)) is not None]


def _needs_annotation(field: FieldDefinition) -> bool:
    return field.type is FieldType.ENTITY_NAME or (field.type is FieldType.LOOKUP and len(field.relation) > 1)


async def pages(
    client: DataverseClient, path: str, headers: Mapping[str, str], subject: str
) -> AsyncIterator[dict[str, Any]]:
    """The pages of a list, one at a time; links are followed as they are, with the same headers."""
    seen = set()
    link: str | None = path
    while link is not None:
        if link in seen:
            raise CrmUnavailable(f"CRM pages {subject} in a circle.", fix="Try again later.")
        seen.add(link)
        page = (await client.send(Request("GET", link, headers), subject)).json()
        yield page
        link = page.get(NEXT)


async def rest(
    client: DataverseClient, first: Answer, headers: Mapping[str, str], subject: str
) -> list[dict[str, Any]]:
    """All rows of a list whose first page is here already."""
    page = first.json()
    rows: list[dict[str, Any]] = list(page["value"])
    if link := page.get(NEXT):
        async for following in pages(client, link, headers, subject):
            rows += following["value"]
    return rows


def list_path(columns: Columns, **options: str | None) -> str:
    """The path of a list of rows: `filter`, `orderby`, `count` and `top` without their `$`."""
    named = {f"${name}": text for name, text in options.items()}
    return query(columns.table.entity_set, {"$select": columns.select, **named})
