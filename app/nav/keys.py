"""Primary keys as one text: the parts joined by a comma (`CT000001,CUST`)."""

from collections.abc import Collection

from app.domain.records import FieldType
from app.nav.definitions import NavTable
from app.nav.values import Stored, StoredValues, Unfit, blank

SEPARATOR = ","


def parse_key(table: NavTable, key: str) -> dict[str, Stored | None]:
    """The key fields of a key as a person writes it, in stored form. Raises Unfit."""
    names = table.primary_key
    parts = [key] if len(names) == 1 else key.split(SEPARATOR)
    if len(parts) != len(names):
        labels = ", ".join(table.fields[name].label for name in names)
        raise Unfit(
            f"The key of '{table.definition.label}' has {len(names)} parts joined by commas: {labels}."
        )
    return {name: table.writers[name](part or None) for name, part in zip(names, parts, strict=True)}


def key_of(table: NavTable, fields: StoredValues) -> str:
    """The key of a record. Raises Unfit if its parts could not be told apart."""
    parts = [
        stored if isinstance(stored := fields.get(name), str) else _part(table, name, stored)
        for name in table.primary_key
    ]
    key = SEPARATOR.join(parts)
    if len(parts) > 1 and key.count(SEPARATOR) >= len(parts):
        raise Unfit("A key of several parts cannot hold a comma in one of them.")
    return key


def by_canonical(table: NavTable, keys: Collection[str]) -> dict[str, list[str]]:
    """The keys as they are stored, each with the ways in which it was written; impossible ones are left out."""
    found: dict[str, list[str]] = {}
    for key in keys:
        try:
            parts = parse_key(table, key)
            stored = key_of(table, {name: part for name, part in parts.items() if part is not None})
        except Unfit:
            continue
        found.setdefault(stored, []).append(key)
    return found


def _part(table: NavTable, name: str, stored: Stored | None) -> str:
    if stored is not None:
        return str(stored)
    field = table.fields[name]
    if field.type in (FieldType.DATE, FieldType.DATETIME, FieldType.GUID):
        return ""
    return str(blank(field))
