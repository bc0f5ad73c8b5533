"""All integration table mappings of a company as one document, the same for the same mappings."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from app.domain.errors import FieldProblem, InvalidMapping
from app.domain.mapping import (
    DeletionConflictResolution,
    Direction,
    FieldMapping,
    FieldStatus,
    TableMapping,
    UpdateConflictResolution,
)

FORMAT: Final = "navcrm-integration-table-mappings"
VERSION: Final = 1

_TABLE: Final[Mapping[str, Any]] = {
    "name": str,
    "nav_table": str,
    "crm_entity": str,
    "direction": Direction,
    "nav_filter": str,
    "crm_filter": str,
    "synch_only_coupled_records": bool,
    "update_conflict_resolution": UpdateConflictResolution,
    "deletion_conflict_resolution": DeletionConflictResolution,
    "depends_on": tuple,
    "nav_template": str,
    "crm_template": str,
    "is_default": bool,
    "option_attribute": str,
    "position": int,
}
_ROW: Final[Mapping[str, Any]] = {
    "nav_field": str,
    "crm_attribute": str,
    "direction": Direction,
    "constant_value": str,
    "transformation": str,
    "clear_value_on_failed_synch": bool,
    "not_null": bool,
    "validate": bool,
    "status": FieldStatus,
}
_NEEDED: Final = {"name", "nav_table", "crm_entity", "direction"}
_OPTIONAL_TEXTS: Final = {
    "nav_filter", "crm_filter", "nav_template", "crm_template", "option_attribute", "nav_field", "crm_attribute",
    "constant_value", "transformation",
}  # fmt: skip


def document_of(mappings: Iterable[TableMapping]) -> dict[str, Any]:
    """The document: mappings in the order of their position and name, rows in their order, nothing that
    differs between two companies with the same mappings (ids, watermarks)."""
    ordered = sorted(mappings, key=lambda mapping: (mapping.position, mapping.name))
    return {"format": FORMAT, "version": VERSION, "mappings": [_mapping_out(mapping) for mapping in ordered]}


def _mapping_out(mapping: TableMapping) -> dict[str, Any]:
    values = {name: _plain(getattr(mapping, name)) for name in _TABLE}
    rows = [{name: _plain(getattr(row, name)) for name in _ROW} for row in mapping.fields if row.rule is None]
    return {**values, "fields": rows}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, str) else value


def mappings_of(document: Mapping[str, Any]) -> tuple[TableMapping, ...]:
    """The mappings of a document. Properties that are left out have their defaults.

    Raises InvalidMapping with every problem of form.
    """
    problems: list[FieldProblem] = []
    for name, known in (("format", FORMAT), ("version", VERSION)):
        if document.get(name, known) != known:
            problems.append(
                FieldProblem(f"/{name}", f"The document is not {FORMAT} version {VERSION}.", known)
            )
    given = document.get("mappings")
    if not isinstance(given, list):
        problems.append(FieldProblem("/mappings", "Here stands a list of mappings."))
        given = []
    found = [_mapping_in(item, f"/mappings/{position}", problems) for position, item in enumerate(given)]
    mappings = tuple(mapping for mapping in found if mapping is not None)
    names = [mapping.name for mapping in mappings]
    problems += [
        FieldProblem(f"/mappings/{position}/name", f"The name {name} stands here twice.")
        for position, name in enumerate(names)
        if name in names[:position]
    ]
    if problems:
        raise InvalidMapping("The document cannot be read.", errors=problems)
    return mappings


def _mapping_in(item: Any, pointer: str, problems: list[FieldProblem]) -> TableMapping | None:
    before = len(problems)
    values = _values(item, {**_TABLE, "fields": list}, pointer, problems)
    missing = sorted(_NEEDED - set(values)) if len(problems) == before else []
    problems += [FieldProblem(f"{pointer}/{name}", "This is needed.") for name in missing]
    rows = []
    for position, row in enumerate(values.pop("fields", ())):
        at = f"{pointer}/fields/{position}"
        read = {"nav_field": None, "crm_attribute": None, **_values(row, _ROW, at, problems)}
        if "direction" not in read and len(problems) == before:
            problems.append(FieldProblem(f"{at}/direction", "This is needed."))
        if len(problems) == before:
            rows.append(FieldMapping(**read))
    if len(problems) > before:
        return None
    return TableMapping(**values, fields=tuple(rows))


def _values(
    item: Any, kinds: Mapping[str, Any], pointer: str, problems: list[FieldProblem]
) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        problems.append(FieldProblem(pointer, "Here stands an object."))
        return {}
    values: dict[str, Any] = {}
    for name, value in item.items():
        at = f"{pointer}/{name}"
        if name not in kinds:
            problems.append(FieldProblem(at, "There is no such property."))
        elif value is None and name in _OPTIONAL_TEXTS:
            values[name] = None
        else:
            try:
                values[name] = _typed(value, kinds[name])
            except ValueError:
                problems.append(FieldProblem(at, f"This value does not fit: {value!r:.60}."))
    return values


def _typed(value: Any, kind: Any) -> Any:
    if kind is tuple:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError(value)
        return tuple(value)
    if kind in (str, bool, int, list):
        if type(value) is not kind:
            raise ValueError(value)
        return value
    return kind(value)
