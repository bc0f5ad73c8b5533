"""The default synchronization setup: what is in it, and in which order it is synchronized."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app import filters
from app.domain.company import Generation
from app.domain.defaults import (
    default_entries,
    default_mappings,
    dependency_circle,
    full_synch_order,
    implied_fields,
)
from app.domain.errors import InvalidMapping
from app.domain.job import EntryStatus
from app.domain.mapping import Direction, FieldMapping, TableMapping, UpdateConflictResolution
from app.domain.records import Side
from app.domain.templates import template_values

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)


def named(generation: Generation, name: str) -> TableMapping:
    return next(m for m in default_mappings(generation) if m.name == name)


@pytest.mark.parametrize(
    "generation, mappings, rows",
    [(Generation.NAV2017, 14, 91), (Generation.NAV2018, 15, 105)],
)
def test_a_generation_of_nav_has_so_many_default_mappings_and_rows(
    generation: Generation, mappings: int, rows: int
) -> None:
    found = default_mappings(generation)
    assert (len(found), sum(len(mapping.fields) for mapping in found)) == (mappings, rows)
    assert len({mapping.name for mapping in found}) == mappings


def test_business_central_installs_what_it_does_without_features() -> None:
    plain = {mapping.name for mapping in default_mappings(Generation.BC)}
    assert len(plain) == 16
    assert {"UNIT OF MEASURE", "CUSTPRCGRP-PRICE", "SALESPRC-PRODPRICE", "VENDOR"} <= plain


@pytest.mark.parametrize("generation", Generation)
def test_the_known_mappings_are_there_in_every_generation(generation: Generation) -> None:
    salespeople = named(generation, "SALESPEOPLE")
    assert (salespeople.nav_table, salespeople.crm_entity) == ("salespeople", "systemuser")
    assert salespeople.direction is Direction.FROM_CRM
    customer = named(generation, "CUSTOMER")
    assert (customer.nav_table, customer.crm_entity) == ("customers", "account")
    assert customer.crm_filter == "statecode eq 0 and customertypecode eq 3"
    assert template_values(customer.crm_template, Side.CRM) == {"customertypecode": 3}
    contact = named(generation, "CONTACT")
    assert contact.nav_filter == "Type eq 'Person' and Company_No ne ''"
    assert "_parentcustomerid_value ne null" in (contact.crm_filter or "")
    assert "_accountid_value ne null" in (contact.crm_filter or "")


@pytest.mark.parametrize("generation", Generation)
def test_every_default_filter_can_be_read_and_names_and_dependencies_are_whole(
    generation: Generation,
) -> None:
    mappings = default_mappings(generation)
    names = {mapping.name for mapping in mappings}
    for mapping in mappings:
        for side in Side:
            if text := mapping.filter_on(side):
                assert filters.names(filters.parse(text))
        assert set(mapping.depends_on) <= names
        assert mapping.update_conflict_resolution is UpdateConflictResolution.MERGE
        assert mapping.is_default
        assert mapping.nav_template is None
    assert not dependency_circle(mappings)


def test_option_mappings_stand_for_the_options_of_an_account() -> None:
    found = {
        m.nav_table: m.option_attribute for m in default_mappings(Generation.NAV2018) if m.option_attribute
    }
    assert found == {
        "shipping-agents": "address1_shippingmethodcode",
        "shipment-methods": "address1_freighttermscode",
        "payment-terms": "paymenttermscode",
    }


def test_owner_and_parent_account_are_implied_but_not_where_a_row_says_them() -> None:
    rules = {row.rule: row.direction for row in implied_fields(named(Generation.NAV2018, "CUSTOMER"))}
    assert rules == {"owner": Direction.BIDIRECTIONAL, "blocked_when_inactive": Direction.FROM_CRM}
    assert [row.rule for row in implied_fields(named(Generation.NAV2018, "CONTACT"))] == [
        "owner",
        "parent_account",
    ]
    assert [row.rule for row in implied_fields(named(Generation.BC, "CONTACT"))] == ["parent_account"]
    assert implied_fields(named(Generation.NAV2018, "OPPORTUNITY")) == ()


@pytest.mark.parametrize("mapping, kind", [("ITEM-PRODUCT", "1"), ("RESOURCE-PRODUCT", "3")])
def test_items_and_resources_become_products_of_their_kind(mapping: str, kind: str) -> None:
    rows = implied_fields(named(Generation.NAV2018, mapping))
    assert FieldMapping(None, "producttypecode", Direction.TO_CRM, constant_value=kind) in rows


@pytest.mark.parametrize(
    "generation, intervals, timeouts",
    [
        (Generation.NAV2017, {"CUSTOMER": 2, "SALESPEOPLE": 30}, {"CUSTOMER": None, "SALESPEOPLE": None}),
        (Generation.NAV2018, {"CUSTOMER": 2, "SALESPEOPLE": 30}, {"CUSTOMER": 720, "SALESPEOPLE": 1440}),
        (Generation.BC, {"CUSTOMER": 30, "PAYMENT TERMS": 30}, {"CUSTOMER": 720, "PAYMENT TERMS": 1440}),
    ],
)
def test_the_default_jobs_have_the_intervals_of_their_generation(
    generation: Generation, intervals: dict[str, int], timeouts: dict[str, int | None]
) -> None:
    names = [mapping.name for mapping in default_mappings(generation)]
    entries = {e.mapping: e for e in default_entries(generation, names, new_id=uuid4, now=NOW)}
    for name, minutes in intervals.items():
        assert entries[name].minutes_between_runs == minutes
        assert entries[name].inactivity_timeout_minutes == timeouts[name]
        assert entries[name].earliest_start_at == NOW + timedelta(minutes=minutes)
    for entry in entries.values():
        assert entry.status is EntryStatus.READY
        assert (entry.maximum_attempts, entry.rerun_delay) == (10, timedelta(seconds=30))


def test_the_statistics_job_comes_with_the_solution_only() -> None:
    def kinds(solution: bool) -> list[tuple[str, int, int]]:
        entries = default_entries(
            Generation.NAV2018, ["CUSTOMER"], new_id=lambda: UUID(int=1), now=NOW, solution_installed=solution
        )
        return [(entry.kind, entry.minutes_between_runs, entry.maximum_attempts) for entry in entries]

    assert kinds(False) == [("synchronize", 2, 10)]
    assert kinds(True) == [("synchronize", 2, 10), ("account_statistics", 30, 2)]


def test_nav_2018_schedules_ten_mappings() -> None:
    names = [mapping.name for mapping in default_mappings(Generation.NAV2018)]
    entries = default_entries(Generation.NAV2018, names, new_id=uuid4, now=NOW)
    assert {entry.mapping for entry in entries} == {
        "SALESPEOPLE", "CUSTOMER", "CONTACT", "CURRENCY", "UNIT OF MEASURE", "ITEM-PRODUCT", "RESOURCE-PRODUCT",
        "CUSTPRCGRP-PRICE", "SALESPRC-PRODPRICE", "POSTEDSALESINV-INV",
    }  # fmt: skip


@pytest.mark.parametrize("generation", [Generation.NAV2017, Generation.NAV2018])
def test_a_full_synchronization_goes_by_dependency(generation: Generation) -> None:
    order = [mapping.name for mapping in full_synch_order(default_mappings(generation))]
    assert order[:7] == [
        "CURRENCY", "SALESPEOPLE", "UNIT OF MEASURE", "CUSTOMER", "CONTACT", "RESOURCE-PRODUCT", "ITEM-PRODUCT",
    ]  # fmt: skip
    assert sorted(order) == sorted(mapping.name for mapping in default_mappings(generation))


@pytest.mark.parametrize("generation", Generation)
def test_what_a_mapping_depends_on_is_synchronized_before_it(generation: Generation) -> None:
    ordered = full_synch_order(default_mappings(generation))
    seen: set[str] = set()
    for mapping in ordered:
        assert set(mapping.depends_on) <= seen
        seen.add(mapping.name)


def test_a_circle_of_dependencies_is_named_and_does_not_hang_the_order() -> None:
    circle = [
        TableMapping("A", "items", "product", Direction.TO_CRM, depends_on=("B", "GONE")),
        TableMapping("B", "resources", "product", Direction.TO_CRM, depends_on=("C",)),
        TableMapping("C", "customers", "account", Direction.TO_CRM, depends_on=("A",)),
    ]
    assert sorted(mapping.name for mapping in full_synch_order(circle)) == ["A", "B", "C"]
    assert set(dependency_circle(circle)) == {"A", "B", "C"}
    assert dependency_circle(circle[:2]) == ()


def test_a_template_is_named_or_given() -> None:
    assert template_values(None, Side.NAV) == {}
    assert template_values('{"Country_Region_Code": "GB"}', Side.NAV) == {"Country_Region_Code": "GB"}
    for wrong in ("CRMACOUNT", "{", "{]", '{"a": [1]}', '{"a": 1.5}'):
        with pytest.raises(InvalidMapping):
            template_values(wrong, Side.CRM)
