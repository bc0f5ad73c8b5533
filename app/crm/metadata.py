"""What CRM says its entities hold: read once from EntityDefinitions, kept for a while.

Type-specific properties of attributes need a cast each (Dataverse: query metadata), so one `$batch` asks for all
of them: an entity costs one request, and the names of all entities one more for the whole organization.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from app.crm.client import DataverseClient
from app.crm.failures import error_of
from app.crm.wire import Request
from app.domain.errors import TableNotFound
from app.domain.naming import near
from app.domain.records import FieldDefinition, FieldType, Option, TableDefinition

LIFETIME = 600.0  # seconds
FRESH = 10.0  # seconds; what is missing in something older may have been installed since

_TYPES = {
    "String": FieldType.TEXT,
    "Memo": FieldType.MEMO,
    "Integer": FieldType.INTEGER,
    "BigInt": FieldType.BIG_INTEGER,
    "Decimal": FieldType.DECIMAL,
    "Double": FieldType.DECIMAL,
    "Money": FieldType.MONEY,
    "Boolean": FieldType.BOOLEAN,
    "Picklist": FieldType.OPTION,
    "State": FieldType.OPTION,
    "Status": FieldType.OPTION,
    "DateTime": FieldType.DATETIME,
    "Uniqueidentifier": FieldType.GUID,
    "Lookup": FieldType.LOOKUP,
    "Customer": FieldType.LOOKUP,
    "Owner": FieldType.LOOKUP,
    "EntityName": FieldType.ENTITY_NAME,
}
_ENTITY = (
    "LogicalName,EntitySetName,PrimaryIdAttribute,PrimaryNameAttribute,ChangeTrackingEnabled,"
    "IsOptimisticConcurrencyEnabled,DisplayName"
)
_COMMON = (
    "LogicalName,AttributeType,AttributeOf,DisplayName,RequiredLevel,"
    "IsValidForCreate,IsValidForUpdate,IsValidForRead"
)
_OPTIONS = "?$select=LogicalName&$expand=OptionSet"
# What only some kinds of attributes have. Option sets are expanded, so they come with their labels.
_CASTS = {
    "String": "?$select=LogicalName,MaxLength",
    "Memo": "?$select=LogicalName,MaxLength",
    "Integer": "?$select=LogicalName,MinValue,MaxValue",
    "Decimal": "?$select=LogicalName,MinValue,MaxValue,Precision",
    "Double": "?$select=LogicalName,MinValue,MaxValue,Precision",
    "Money": "?$select=LogicalName,MinValue,MaxValue,Precision",
    "DateTime": "?$select=LogicalName,Format,DateTimeBehavior",
    "Lookup": "?$select=LogicalName,Targets",
    "Picklist": _OPTIONS + ",GlobalOptionSet",
    "State": _OPTIONS,
    "Status": _OPTIONS,
}
_RELATIONSHIPS = "?$select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName"


@dataclass(frozen=True, slots=True)
class EntityNames:
    """One line of the list of all entities."""

    name: str
    entity_set: str
    key: str
    tracks_changes: bool


@dataclass(frozen=True, slots=True)
class CrmTable:
    """An entity: its definition, and the words that only the wire needs."""

    definition: TableDefinition
    entity_set: str
    key: str
    # (lookup, entity it points to) -> navigation property; its case counts, and it is not the attribute's name
    navigations: Mapping[tuple[str, str], str]
    entity_sets: Mapping[str, str]  # of all entities, by logical name
    guards_versions: bool  # whether If-Match may name a version

    @property
    def name(self) -> str:
        """The logical name."""
        return self.definition.name

    def field(self, name: str) -> FieldDefinition | None:
        """The attribute of that logical name."""
        return self.definition.fields.get(name)

    def property_of(self, field: FieldDefinition) -> str:
        """The name by which an attribute is selected and filtered: `_x_value` for lookups."""
        return f"_{field.name}_value" if field.type is FieldType.LOOKUP else field.name

    def lookup_of(self, field: FieldDefinition) -> FieldDefinition | None:
        """The lookup whose entity an attribute such as `owneridtype` names."""
        return self.definition.fields.get(field.name.removesuffix("type"))


class Metadata:
    """The entities of one organization. Answers are shared by everyone who asks at the same time."""

    def __init__(
        self,
        client: DataverseClient,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._lifetime = lifetime
        self._clock = clock
        self._kept: dict[str, tuple[float, Any]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def names(self, max_age: float | None = None) -> Mapping[str, EntityNames]:
        """All entities by logical name, read at most `max_age` seconds ago."""
        found: Mapping[str, EntityNames] = await self._once("", self._read_names, max_age)
        return found

    async def name_of_set(self, entity_set: str) -> str:
        """The logical name behind `accounts`. Raises TableNotFound."""
        known: Mapping[str, EntityNames] = {}
        for max_age in (None, FRESH):
            known = await self.names(max_age)
            for names in known.values():
                if names.entity_set == entity_set:
                    return names.name
        # The logical name (`account`) is a common slip for the entity set (`accounts`).
        slip = known.get(entity_set.lower())
        meant = slip.entity_set if slip else near(entity_set, (each.entity_set for each in known.values()))
        raise _unknown(f"CRM has no entity set '{entity_set}'.", meant, meant)

    async def table(self, name: str, max_age: float | None = None) -> CrmTable:
        """The entity of that logical name. Raises TableNotFound."""
        names = await self.names(max_age)
        if name not in names:
            names = await self.names(FRESH)
        if name not in names:
            meant = near(name, names)
            raise _unknown(f"CRM has no entity '{name}'.", meant, names[meant].entity_set if meant else None)
        found: CrmTable = await self._once(name, lambda: self._read_table(name, names), max_age)
        return found

    async def with_fields(self, name: str, fields: Iterable[str]) -> CrmTable:
        """The entity, read anew if one of these attributes is missing in what we remember. One that is missing for
        good is not remembered, so that it is found as soon as somebody adds it."""
        wanted = set(fields)
        table = await self.table(name)
        if wanted <= table.definition.fields.keys():
            return table
        table = await self.table(name, FRESH)
        if not wanted <= table.definition.fields.keys():
            self._kept.pop(name, None)
        return table

    async def _once(self, key: str, read: Callable[[], Awaitable[object]], max_age: float | None) -> Any:
        async with self._locks.setdefault(key, asyncio.Lock()):
            read_at, value = self._kept.get(key, (0.0, None))
            if value is None or self._clock() - read_at >= (self._lifetime if max_age is None else max_age):
                value = await read()
                self._kept[key] = (self._clock(), value)
            return value

    async def _read_names(self) -> Mapping[str, EntityNames]:
        path = "EntityDefinitions?$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
        answer = (await self._client.send(Request("GET", path), "the list of entities")).json()
        return {
            entity["LogicalName"]: EntityNames(
                entity["LogicalName"],
                entity["EntitySetName"],
                entity["PrimaryIdAttribute"],
                bool(entity.get("ChangeTrackingEnabled")),
            )
            for entity in answer["value"]
            if entity.get("EntitySetName")
        }

    async def _read_table(self, name: str, names: Mapping[str, EntityNames]) -> CrmTable:
        root = f"EntityDefinitions(LogicalName='{name}')"
        cast = "/Attributes/Microsoft.Dynamics.CRM.{}AttributeMetadata"
        paths = [
            f"{root}?$select={_ENTITY}",
            f"{root}/ManyToOneRelationships{_RELATIONSHIPS}",
            f"{root}/Attributes?$select={_COMMON}",
            *(root + cast.format(kind) + select for kind, select in _CASTS.items()),
        ]
        subject = f"the definition of {name}"
        answers = await self._client.batch([Request("GET", path) for path in paths], subject)
        for answer in answers:
            if not answer.ok:
                raise error_of(answer, subject)
        entity, relationships, attributes, *casts = (answer.json() for answer in answers)
        details = {item["LogicalName"]: item for part in casts for item in part["value"]}
        merged = [item | details.get(item["LogicalName"], {}) for item in attributes["value"]]
        return _table(entity, relationships["value"], merged, names)


def _unknown(said: str, meant: str | None, entity_set: str | None) -> TableNotFound:
    if meant is None:
        return TableNotFound(
            said, fix="GET …/integration-table-mappings names the entities that are synchronized."
        )
    return TableNotFound(
        f"{said} Did you mean {meant}?", fix=f"GET …/crm-entities/{entity_set} shows its attributes."
    )


def _table(
    entity: Mapping[str, Any],
    relationships: Iterable[Mapping[str, Any]],
    attributes: Iterable[Mapping[str, Any]],
    names: Mapping[str, EntityNames],
) -> CrmTable:
    key = entity["PrimaryIdAttribute"]
    fields = (_field(attribute, key) for attribute in attributes if _is_readable(attribute))
    by_name = _with_targets({field.name: field for field in fields if field is not None})
    definition = TableDefinition(
        name=entity["LogicalName"],
        label=_label(entity.get("DisplayName")) or entity["LogicalName"],
        fields=by_name,
        primary_key=(key,),
        name_field=entity.get("PrimaryNameAttribute"),
        entity_set=entity["EntitySetName"],
        tracks_changes=bool(entity.get("ChangeTrackingEnabled")),
    )
    return CrmTable(
        definition=definition,
        entity_set=entity["EntitySetName"],
        key=key,
        navigations=_navigations(by_name, relationships),
        entity_sets={name: each.entity_set for name, each in names.items()},
        guards_versions=entity.get("IsOptimisticConcurrencyEnabled") is not False,
    )


def _is_readable(attribute: Mapping[str, Any]) -> bool:
    """Attributes that only describe another one (`owneridname`) exist in metadata, not on the wire."""
    describes = attribute.get("AttributeOf") and attribute.get("AttributeType") != "EntityName"
    return attribute.get("IsValidForRead") is not False and not describes


def _field(attribute: Mapping[str, Any], key: str) -> FieldDefinition | None:
    kind = _TYPES.get(attribute.get("AttributeType", ""))
    if kind is None:
        return None
    name = attribute["LogicalName"]
    if kind is FieldType.DATETIME and _value(attribute.get("DateTimeBehavior")) == "DateOnly":
        kind = FieldType.DATE
    insertable, updatable = bool(attribute.get("IsValidForCreate")), bool(attribute.get("IsValidForUpdate"))
    options = attribute.get("OptionSet") or attribute.get("GlobalOptionSet") or {}
    return FieldDefinition(
        name=name,
        label=_label(attribute.get("DisplayName")) or name,
        type=kind,
        length=attribute.get("MaxLength"),
        options=tuple(_option(option) for option in options.get("Options", ())),
        relation=tuple(attribute.get("Targets") or ()),
        key=name == key,
        required=insertable and _value(attribute.get("RequiredLevel")) == "SystemRequired",
        insertable=insertable,
        updatable=updatable,
        precision=attribute.get("Precision"),
        minimum=_decimal(attribute.get("MinValue")),
        maximum=_decimal(attribute.get("MaxValue")),
    )


def _with_targets(fields: dict[str, FieldDefinition]) -> dict[str, FieldDefinition]:
    """The entity half of a lookup (`owneridtype`) names one of the entities that the lookup may point to."""
    for name, field in fields.items():
        lookup = fields.get(name.removesuffix("type"))
        if field.type is FieldType.ENTITY_NAME and lookup is not None:
            fields[name] = replace(field, relation=lookup.relation)
    return fields


def _navigations(
    fields: Mapping[str, FieldDefinition], relationships: Iterable[Mapping[str, Any]]
) -> dict[tuple[str, str], str]:
    known = {
        (each["ReferencingAttribute"], each["ReferencedEntity"]): each[
            "ReferencingEntityNavigationPropertyName"
        ]
        for each in relationships
        if each.get("ReferencingEntityNavigationPropertyName")
    }
    # An owner's relationship leads to `owner`, which stands for users and teams alike.
    shared = {attribute: name for (attribute, _), name in known.items()}
    for field in fields.values():
        if field.type is FieldType.LOOKUP:
            for target in field.relation:
                known.setdefault((field.name, target), shared.get(field.name, field.name))
    return known


def _option(option: Mapping[str, Any]) -> Option:
    label = _label(option.get("Label")) or str(option["Value"])
    return Option(int(option["Value"]), label, label)


def _label(label: Mapping[str, Any] | None) -> str | None:
    """The text in the user's language, else in the first there is."""
    texts = [(label or {}).get("UserLocalizedLabel"), *((label or {}).get("LocalizedLabels") or ())]
    return next((text["Label"] for text in texts if text and text.get("Label")), None)


def _value(managed: Mapping[str, Any] | None) -> Any:
    return (managed or {}).get("Value")


def _decimal(number: Any) -> Decimal | None:
    return None if number is None else Decimal(str(number))
