"""The default synchronization setup, as data (nav-behaviour 4; data/default-mappings.json).

The table holds every generation's mappings, of Business Central those that it installs where no feature of its setup
is on. Rows that NAV keeps in code are implied, never stored.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

from app.domain.cell import BASE_UNIT, EXCHANGE_RATE, LOCAL_CURRENCY, NEW_IN_LOCAL_CURRENCY
from app.domain.company import Generation
from app.domain.job import EntryStatus, JobKind, JobQueueEntry
from app.domain.mapping import (
    DeletionConflictResolution,
    Direction,
    FieldMapping,
    FieldStatus,
    TableMapping,
    UpdateConflictResolution,
)

PRODUCT: Final = {
    Generation.NAV2017: "Dynamics CRM",
    Generation.NAV2018: "Dynamics 365 for Sales",
    Generation.BC: "Dataverse",
}
_RERUN_DELAY = timedelta(seconds=30)


@cache
def _table() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    text = files("app.domain").joinpath("data", "default-mappings.json").read_text(encoding="utf-8")
    table: dict[str, list[dict[str, Any]]] = json.loads(text)
    return table


def default_mappings(generation: Generation) -> tuple[TableMapping, ...]:
    """The mappings of the default setup, in the order in which NAV installs them."""
    return tuple(_mapping(row, position) for position, row in enumerate(_table()[generation], start=1))


def _mapping(row: Mapping[str, Any], position: int) -> TableMapping:
    return TableMapping(
        name=row["name"],
        nav_table=row["nav_table"],
        crm_entity=row["crm_entity"],
        direction=Direction(row["direction"]),
        nav_filter=row.get("nav_filter"),
        crm_filter=row.get("crm_filter"),
        synch_only_coupled_records=row.get("synch_only_coupled_records", True),
        # Merging by field is our default in every generation; NAV's record rule is the policy `none`.
        update_conflict_resolution=UpdateConflictResolution.MERGE,
        deletion_conflict_resolution=DeletionConflictResolution(
            row.get("deletion_conflict_resolution", DeletionConflictResolution.NONE)
        ),
        depends_on=tuple(row.get("depends_on", ())),
        crm_template=row.get("crm_template"),
        is_default=True,
        option_attribute=row.get("option_attribute"),
        position=position,
        fields=tuple(_field(field) for field in row["fields"]),
    )


def _field(row: Mapping[str, Any]) -> FieldMapping:
    return FieldMapping(
        nav_field=row["nav_field"],
        crm_attribute=row["crm_attribute"],
        direction=Direction(row["direction"]),
        constant_value=row.get("constant_value"),
        clear_value_on_failed_synch=row.get("clear_value_on_failed_synch", False),
        not_null=row.get("not_null", False),
        validate=row.get("validate", True),
        status=FieldStatus(row.get("status", FieldStatus.ENABLED)),
    )


def default_entries(
    generation: Generation,
    mappings: Collection[str],
    *,
    new_id: Callable[[], UUID],
    now: datetime,
    solution_installed: bool = False,
    timelines: bool = False,
) -> tuple[JobQueueEntry, ...]:
    """The recurring jobs of these default mappings (nav-behaviour 13.1), each due one interval from now.

    `timelines` adds the job that posts about sales orders, where CRM has posts; `solution_installed` the job that
    updates the account statistics.
    """
    entries = [
        JobQueueEntry(
            id=new_id(),
            description=f"{row['name']} - {PRODUCT[generation]} synchronization job.",
            kind=JobKind.SYNCHRONIZE,
            mapping=row["name"],
            minutes_between_runs=row["job"]["minutes_between_runs"],
            inactivity_timeout_minutes=row["job"]["inactivity_timeout_minutes"],
            status=EntryStatus.READY,
            earliest_start_at=now + timedelta(minutes=row["job"]["minutes_between_runs"]),
            maximum_attempts=10,
            rerun_delay=_RERUN_DELAY,
            is_default=True,
        )
        for row in _table()[generation]
        if row["name"] in mappings and "job" in row
    ]
    if timelines:
        description = f"Sales Order Posts - {PRODUCT[generation]} synchronization job."
        entries.append(_entry(JobKind.TIMELINE_POSTS, description, 2, 10, new_id(), now))
    if solution_installed:
        description = f"Customer Statistics - {PRODUCT[generation]} synchronization job."
        entries.append(_entry(JobKind.ACCOUNT_STATISTICS, description, 30, 2, new_id(), now))
    return tuple(entries)


def _entry(
    kind: str, description: str, minutes: int, attempts: int, entry_id: UUID, now: datetime
) -> JobQueueEntry:
    """A job of its own, of no mapping."""
    return JobQueueEntry(
        id=entry_id,
        description=description,
        kind=kind,
        mapping=None,
        minutes_between_runs=minutes,
        earliest_start_at=now + timedelta(minutes=minutes),
        maximum_attempts=attempts,
        rerun_delay=_RERUN_DELAY,
        is_default=True,
    )


# --- what NAV keeps in code instead of in a row ----------------------------------------------------

_OWNER: Final = FieldMapping("Salesperson_Code", "ownerid", Direction.BIDIRECTIONAL, rule="owner")
_SALES_INVENTORY, _SERVICES = "1", "3"  # product.producttypecode


def _constant(crm_attribute: str, value: str) -> FieldMapping:
    return FieldMapping(None, crm_attribute, Direction.TO_CRM, constant_value=value)


_PRODUCT: Final = (
    FieldMapping("Base_Unit_of_Measure", "defaultuomscheduleid", Direction.TO_CRM),
    FieldMapping("Base_Unit_of_Measure", "defaultuomid", Direction.TO_CRM, rule=BASE_UNIT),
    FieldMapping(None, "transactioncurrencyid", Direction.TO_CRM, rule=LOCAL_CURRENCY),
    FieldMapping(None, "quantitydecimal", Direction.TO_CRM, constant_value="2", rule="on_insert"),
    FieldMapping("Blocked", "statecode", Direction.BIDIRECTIONAL, rule="product_state"),
)

_IMPLIED: Final[Mapping[tuple[str, str], tuple[FieldMapping, ...]]] = {
    ("customers", "account"): (
        _OWNER,
        FieldMapping("Blocked", "statuscode", Direction.FROM_CRM, rule="blocked_when_inactive"),
    ),
    ("contacts", "contact"): (
        _OWNER,
        FieldMapping(
            "IntegrationCustomerNo", "parentcustomerid", Direction.BIDIRECTIONAL, rule="parent_account"
        ),
    ),
    ("currencies", "transactioncurrency"): (
        FieldMapping("Currency_Factor", "exchangerate", Direction.TO_CRM, rule=EXCHANGE_RATE),
        FieldMapping(
            "Amount_Decimal_Places", "currencyprecision", Direction.TO_CRM, rule="currency_precision"
        ),
    ),
    ("items", "product"): (_constant("producttypecode", _SALES_INVENTORY), *_PRODUCT),
    ("resources", "product"): (_constant("producttypecode", _SERVICES), *_PRODUCT),
    ("units-of-measure", "uomschedule"): (
        FieldMapping("Code", "name", Direction.TO_CRM, transformation="unit_group_name"),
    ),
    ("customer-price-groups", "pricelevel"): (
        FieldMapping(
            "Prices_Currency_Code", "transactioncurrencyid", Direction.TO_CRM, rule="price_list_currency"
        ),
    ),
    ("sales-prices", "productpricelevel"): (
        FieldMapping("Priced_Unit_of_Measure", "uomid", Direction.TO_CRM, rule=BASE_UNIT),
    ),
    ("sales-invoice-headers", "invoice"): (FieldMapping("No", "name", Direction.TO_CRM),),
    ("sales-invoice-lines", "invoicedetail"): (
        FieldMapping("Document_No", "invoiceid", Direction.TO_CRM),
        FieldMapping("Line_No", "lineitemnumber", Direction.TO_CRM),
    ),
}


_WITH_AMOUNTS: Final = frozenset({("customers", "account"), ("opportunities", "opportunity")})
_AMOUNTS: Final = FieldMapping(None, "transactioncurrencyid", Direction.TO_CRM, rule=NEW_IN_LOCAL_CURRENCY)
"""CRM takes the amounts of a record without a currency for amounts in its own."""


def implied_fields(mapping: TableMapping, *, foreign: bool = False) -> tuple[FieldMapping, ...]:
    """The rows that NAV keeps in code for this pair of tables. They take part in every transfer, are
    not stored and not counted. An enabled row of the mapping for the same attribute takes their place.
    `foreign` says that CRM's base currency is not the local one.
    """
    pair = (mapping.nav_table, mapping.crm_entity)
    implied = (*_IMPLIED.get(pair, ()), *([_AMOUNTS] if foreign and pair in _WITH_AMOUNTS else ()))
    explicit = {
        row.crm_attribute for row in mapping.fields if row.rule is None and row.status is FieldStatus.ENABLED
    }
    return tuple(
        row for row in implied if row.crm_attribute not in explicit and mapping.option_attribute is None
    )


# --- the order of a full synchronization -----------------------------------------------------------

_FIRST: Final = (
    "currencies",
    "salespeople",
    "unit-groups",
    "units-of-measure",
    "customers",
    "contacts",
    "resources",
    "items",
)


def full_synch_order(mappings: Iterable[TableMapping]) -> tuple[TableMapping, ...]:
    """The mappings in the order of a full synchronization: what others depend on comes first; beyond
    that currencies, salespeople, units, customers, contacts, resources, items, the rest by name
    (seed-checklist, decisions). Dependencies on absent mappings do not count, and a circle of
    dependencies is cut where it is entered.
    """
    ranked = sorted(mappings, key=_rank)
    by_name = {mapping.name: mapping for mapping in ranked}
    ordered: dict[str, TableMapping] = {}
    entered: set[str] = set()

    def visit(mapping: TableMapping) -> None:
        if mapping.name in entered:
            return
        entered.add(mapping.name)
        needed = (by_name[name] for name in mapping.depends_on if name in by_name)
        for other in sorted(needed, key=_rank):
            visit(other)
        ordered[mapping.name] = mapping

    for mapping in ranked:
        visit(mapping)
    return tuple(ordered.values())


def _rank(mapping: TableMapping) -> tuple[int, str]:
    first = _FIRST.index(mapping.nav_table) if mapping.nav_table in _FIRST else len(_FIRST)
    return (first, mapping.name)


def dependency_circle(mappings: Iterable[TableMapping]) -> tuple[str, ...]:
    """The names of mappings that depend on each other in a circle; empty when there is none."""
    depends_on = {mapping.name: mapping.depends_on for mapping in mappings}
    done: set[str] = set()

    def search(name: str, path: tuple[str, ...]) -> tuple[str, ...]:
        if name in path:
            return path[path.index(name) :]
        if name in done or name not in depends_on:
            return ()
        for other in depends_on[name]:
            if circle := search(other, (*path, name)):
                return circle
        done.add(name)
        return ()

    for name in sorted(depends_on):
        if circle := search(name, ()):
            return circle
    return ()
