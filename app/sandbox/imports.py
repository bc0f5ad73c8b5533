"""What an import of a solution file brings: tables, columns of tables that exist, roles."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from app.sandbox import catalogue

_KINDS = {
    "primarykey": "Uniqueidentifier",
    "nvarchar": "String",
    "ntext": "Memo",
    "money": "Money",
    "decimal": "Decimal",
    "int": "Integer",
    "bit": "Boolean",
    "datetime": "DateTime",
    "lookup": "Lookup",
    "state": "State",
    "status": "Status",
}


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution file, read. `tables` holds for each logical name what data/crm-entities.json holds for its own."""

    unique_name: str
    title: str
    version: str
    roles: tuple[str, ...]
    tables: Mapping[str, dict[str, Any]]
    tracked: frozenset[str]


def read(content: bytes) -> Solution:
    """The solution in a file. Raises KeyError, ValueError or BadZipFile for what is none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        manifest = ElementTree.fromstring(archive.read("solution.xml"))  # noqa: S314 - who starts a sandbox wrote the file
        custom = ElementTree.fromstring(archive.read("customizations.xml"))  # noqa: S314 - as above
    targets = {
        (_text(r, "ReferencingEntityName").lower(), _text(r, "ReferencingAttributeName").lower()): _text(
            r, "ReferencedEntityName"
        ).lower()
        for r in custom.iter("EntityRelationship")
    }
    entities = {_text(entity, "Name").lower(): entity for entity in custom.iterfind("Entities/Entity")}
    title = manifest.find("SolutionManifest/LocalizedNames/LocalizedName")
    return Solution(
        unique_name=_text(manifest, "SolutionManifest/UniqueName"),
        title="" if title is None else title.get("description", ""),
        version=_text(manifest, "SolutionManifest/Version"),
        roles=tuple(role.get("name", "") for role in custom.iterfind("Roles/Role")),
        tables={name: _table(name, entity, targets) for name, entity in entities.items()},
        tracked=frozenset(
            name
            for name, entity in entities.items()
            if _text(entity, "EntityInfo/entity/ChangeTrackingEnabled") == "1"
        ),
    )


def add(source: Mapping[str, dict[str, Any]], solution: Solution) -> dict[str, dict[str, Any]]:
    """The tables of an organization after the import."""
    merged = dict(source)
    for name, table in solution.tables.items():
        if name in source:
            known = source[name]
            merged[name] = known | {"attributes": [*known["attributes"], *table["attributes"]]}
        else:
            # Every table has these, whether the file names them or not.
            merged[name] = table | {"attributes": [*table["attributes"], *catalogue.audit()]}
    return merged


def _table(name: str, entity: Element, targets: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    columns = entity.findall("EntityInfo/entity/attributes/attribute")
    key = next((c for c in columns if _text(c, "Type") == "primarykey"), None)
    return {
        "schema_name": _text(entity, "Name"),
        "primary_key": None if key is None else _text(key, "LogicalName"),
        "entity_set_name": _text(entity, "EntityInfo/entity/EntitySetName") or None,
        "attributes": [_column(name, column, targets) for column in columns],
    }


def _column(table: str, column: Element, targets: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    name = _text(column, "LogicalName")
    label = column.find("displaynames/displayname")
    made: dict[str, Any] = {
        "logical_name": name,
        "schema_name": column.get("PhysicalName", name),
        "crm_type": _KINDS[_text(column, "Type")],
        "label": name if label is None else label.get("description", name),
        "insert": _text(column, "ValidForCreateApi") == "1",
        "modify": _text(column, "ValidForUpdateApi") == "1",
        "options": [*_options(column.iter("state")), *_options(column.iter("status"))],
    }
    if length := _text(column, "MaxLength"):
        made["max_length"] = int(length)
    if target := targets.get((table, name)):
        made["lookup_targets"] = [target]
    return made


def _options(elements: Any) -> list[dict[str, Any]]:
    return [
        {"value": int(element.get("value")), "label": element.find("labels/label").get("description")}
        for element in elements
    ]


def _text(element: Element, path: str) -> str:
    return element.findtext(path) or ""
