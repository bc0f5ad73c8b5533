"""The tables of the organization: columns, lookups, navigation properties, alternate keys.

Columns come from data/crm-entities.json; what that source leaves out (state tables, names, type codes, system
tables, behaviour on delete) is in `catalogue.py`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from app.sandbox import catalogue, imports

LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
OPTIONS = frozenset({"Picklist", "State", "Status"})
NUMBERS = frozenset({"Integer", "BigInt", "Decimal", "Money", "Double"})
MONEY_LIMIT = Decimal(922337203685477)
DECIMAL_LIMIT = Decimal(100000000000)
_CODE = re.compile(r"[a-z0-9][A-Z]|_|\d")  # `Address1_FreightTermsCodeEnum`, `CreditLimit`


@dataclass(slots=True)
class Attribute:
    """A column."""

    name: str
    type: str
    schema_name: str
    label: str
    targets: tuple[str, ...] = ()
    max_length: int | None = None
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    precision: int | None = None
    options: dict[int, str] = field(default_factory=dict)
    default: Any = None
    create: bool = True
    update: bool = True
    required: str = "None"
    date_only: bool = False
    base_of: str | None = None  # the money column whose amount in base currency this is
    navigations: dict[str, str] = field(default_factory=dict)  # target table -> navigation property

    @property
    def read_name(self) -> str:
        """The name under which the column is read: `_x_value` for lookups."""
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name

    @property
    def custom(self) -> bool:
        """Whether the column was added by a solution."""
        return self.name.startswith(catalogue.CUSTOM_PREFIXES)


@dataclass(slots=True)
class AlternateKey:
    """An alternate key; it works once its index is active."""

    schema_name: str
    attributes: tuple[str, ...]
    label: str
    status: str = "Active"

    @property
    def name(self) -> str:
        """The logical name."""
        return self.schema_name.lower()


@dataclass(slots=True, frozen=True)
class Single:
    """A single-valued navigation property: follows a lookup of this table."""

    name: str
    attribute: str
    target: str  # `principal` for owners


@dataclass(slots=True, frozen=True)
class Many:
    """A collection-valued navigation property: the rows of `table` whose lookup points here, or an N:N."""

    name: str
    table: str
    attribute: str
    intersect: str | None = None
    near: str = ""
    far: str = ""


@dataclass(slots=True)
class Table:
    """A table: its names, its columns and what it is joined to."""

    name: str
    set_name: str
    key: str
    primary_name: str | None
    schema_name: str
    ownership: str
    type_code: int
    change_tracking: bool
    attributes: dict[str, Attribute]
    properties: dict[str, Attribute] = field(default_factory=dict)  # by the name in JSON
    singles: dict[str, Single] = field(default_factory=dict)
    collections: dict[str, Many] = field(default_factory=dict)
    keys: list[AlternateKey] = field(default_factory=list)
    states: dict[int, list[int]] = field(default_factory=dict)  # state -> its statuses, the default first

    @property
    def custom(self) -> bool:
        """Whether the table was added by a solution."""
        return self.name.startswith(catalogue.CUSTOM_PREFIXES)

    @property
    def type_name(self) -> str:
        """The OData type."""
        return f"Microsoft.Dynamics.CRM.{self.name}"

    def attributes_shown(self) -> Iterator[Attribute]:
        """The columns that the Web API shows; the type of a lookup's target is only an annotation."""
        return (a for a in self.attributes.values() if a.type != "EntityName")

    @property
    def money(self) -> list[Attribute]:
        """The money columns that people write; `x_base` not among them."""
        return [a for a in self.attributes.values() if a.type == "Money" and a.base_of is None]


class Metadata:
    """All tables, by logical name and by entity set name."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.tables = {table.name: table for table in tables}
        self.sets = {table.set_name: table for table in self.tables.values()}
        self.referencing: dict[str, list[tuple[Table, Attribute]]] = {name: [] for name in self.tables}
        for table in self.tables.values():
            self._connect(table)
        self._connect_many_to_many()

    def _connect(self, table: Table) -> None:
        for attribute in table.attributes.values():
            table.properties[attribute.read_name] = attribute
            known = [target for target in attribute.targets if target in self.tables]
            if attribute.type not in LOOKUPS:
                continue
            for target in known:
                self.referencing[target].append((table, attribute))
                self._collection(table, attribute, target)
            if attribute.type == "Owner":
                table.singles[attribute.name] = Single(attribute.name, attribute.name, "principal")
                attribute.navigations = dict.fromkeys(known, attribute.name)
            else:
                self._single(table, attribute, known)

    def _single(self, table: Table, attribute: Attribute, targets: list[str]) -> None:
        stem = attribute.schema_name if attribute.custom else attribute.name
        for target in targets:
            name = f"{stem}_{target}" if len(attribute.targets) > 1 else stem
            table.singles[name] = Single(name, attribute.name, target)
            attribute.navigations[target] = name

    def _collection(self, table: Table, attribute: Attribute, target: str) -> None:
        known = catalogue.COLLECTIONS.get((table.name, attribute.name, target))
        owner = self.tables[target]
        name = known or f"{target}_{table.set_name}_{attribute.name}"
        owner.collections[name] = Many(name, table.name, attribute.name)

    def _connect_many_to_many(self) -> None:
        for name, intersect, (left, left_key), (right, right_key) in catalogue.MANY_TO_MANY:
            if left in self.tables and right in self.tables and intersect in self.tables:
                one, other = self.tables[left], self.tables[right]
                one.collections[name] = Many(name, right, right_key, intersect, left_key, right_key)
                other.collections[name] = Many(name, left, left_key, intersect, right_key, left_key)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables.values())


@lru_cache(maxsize=50_000)
def metadata_id(*names: str) -> str:
    """The MetadataId of a table, column, key or relationship: the same in every run."""
    return str(uuid5(NAMESPACE_OID, "/".join(names)))


def load(
    *, solution_installed: bool, tracked: Iterable[str], solutions: Sequence[imports.Solution] = ()
) -> Metadata:
    """Read the tables.

    Args:
        solution_installed: whether the tables and columns of the NAV and Business Central solutions are there.
        tracked: logical names of the tables with change tracking.
        solutions: imported solutions.
    """
    text = files("app.sandbox").joinpath("data/crm-entities.json").read_text(encoding="utf-8")
    source: dict[str, Any] = json.loads(text)["entities"]
    source |= {name: {"attributes": attributes} for name, attributes in catalogue.system_tables().items()}
    if not solution_installed:
        source = {n: e for n, e in source.items() if not n.startswith(catalogue.CUSTOM_PREFIXES)}
        source = {n: _without_custom(e) for n, e in source.items()}
    tracked = frozenset(tracked)
    for solution in solutions:
        source = imports.add(source, solution)
        tracked |= solution.tracked
    tables = [_table(name, entity, name in tracked) for name, entity in source.items()]
    return Metadata(tables)


def _without_custom(entity: dict[str, Any]) -> dict[str, Any]:
    kept = [a for a in entity["attributes"] if not a["logical_name"].startswith(catalogue.CUSTOM_PREFIXES)]
    return entity | {"attributes": kept}


def _table(name: str, entity: dict[str, Any], tracked: bool) -> Table:
    raw = [a for a in entity["attributes"] if not a.get("derived_name_of_lookup")]
    raw += [
        a for a in catalogue.additional(name) if a["logical_name"] not in {r["logical_name"] for r in raw}
    ]
    attributes = {}
    for item in raw:
        attribute = _attribute(name, item)
        attributes[attribute.name] = attribute
    for money in [a for a in attributes.values() if a.type == "Money"]:
        attributes[f"{money.name}_base"] = _base_of(money)
    key = entity.get("primary_key") or f"{name}id"
    table = Table(
        name=name,
        set_name=entity.get("entity_set_name") or catalogue.SET_NAMES.get(name) or f"{name}s",
        key=key,
        primary_name=catalogue.primary_name(name, attributes),
        schema_name=entity.get("schema_name") or catalogue.SCHEMA_NAMES.get(name, name.capitalize()),
        ownership=_ownership(name, attributes),
        type_code=catalogue.type_code(name),
        change_tracking=tracked,
        attributes=attributes,
    )
    table.states = catalogue.states(name, attributes)
    return table


def _ownership(name: str, attributes: dict[str, Attribute]) -> str:
    if "ownerid" in attributes:
        return "UserOwned"
    if name in ("systemuser", "team", "businessunit", "role"):
        return "BusinessOwned"
    return "None" if name == "organization" else "OrganizationOwned"


def _label(ours: str, name: str) -> str:
    """What people call an attribute: the words of NAV, but the logical name instead of a name in its code."""
    return name if _CODE.search(ours) and " " not in ours else ours


def _attribute(table: str, raw: dict[str, Any]) -> Attribute:
    name, kind = raw["logical_name"], raw["crm_type"]
    create, update = raw["insert"], raw["modify"]
    if (table, name) in catalogue.WRITABLE:
        create = update = True
    options = {
        int(o["value"]): o["label"] for o in raw.get("options", ()) if kind in OPTIONS and o["label"].strip()
    }
    minimum, maximum, precision = _range(table, name, kind, raw)
    prefix = name.split("_")[0] + "_" if name.startswith(catalogue.CUSTOM_PREFIXES) else ""
    return Attribute(
        name=name,
        type=kind,
        schema_name=raw.get("schema_name")
        or catalogue.SCHEMA_NAMES_OF_COLUMNS.get(name, prefix + raw.get("nav_field", name)),
        label=raw.get("label") or _label(raw.get("nav_field", name), name),
        targets=tuple(raw.get("lookup_targets", ())),
        max_length=raw.get("max_length") or {"String": 100, "Memo": 2000}.get(kind),
        minimum=minimum,
        maximum=maximum,
        precision=precision,
        options=options,
        default=False if kind == "Boolean" and create else None,
        create=create,
        update=update,
        required="SystemRequired" if name in catalogue.REQUIRED.get(table, ()) else "None",
        date_only=raw.get("nav_type") == "Date" and name != "overriddencreatedon",
    )


def _range(
    table: str, name: str, kind: str, raw: dict[str, Any]
) -> tuple[Decimal | None, Decimal | None, int | None]:
    lowest: dict[str, tuple[Decimal, Decimal, int | None]] = {
        "Integer": (Decimal(-(2**31)), Decimal(2**31 - 1), None),
        "Money": (-MONEY_LIMIT, MONEY_LIMIT, 4),
        "Decimal": (-DECIMAL_LIMIT, DECIMAL_LIMIT, 10 if name == "exchangerate" else 5),
        "Double": (-DECIMAL_LIMIT, DECIMAL_LIMIT, 5),
    }
    if kind not in lowest:
        return None, None, None
    low, high, precision = lowest[kind]
    low, high = catalogue.RANGES.get((table, name), (low, high))
    return Decimal(raw.get("min_value") or low), Decimal(raw.get("max_value") or high), precision


def _base_of(money: Attribute) -> Attribute:
    return Attribute(
        name=f"{money.name}_base",
        type="Money",
        schema_name=f"{money.schema_name}_Base",
        label=f"{money.label} (Base)",
        minimum=-MONEY_LIMIT,
        maximum=MONEY_LIMIT,
        precision=4,
        create=False,
        update=False,
        base_of=money.name,
    )
