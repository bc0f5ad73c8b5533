"""The CRM side against the sandbox: what it asks, how often, and what it makes of the answers."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from app.crm.metadata import Metadata
from app.crm.store import Dataverse
from app.crm.writing import write
from app.domain.errors import (
    CrmRecordNotFound,
    CrmRefused,
    InvalidFilter,
    InvalidMapping,
    InvalidValues,
    StaleRecord,
    TableNotFound,
    WatermarkExpired,
)
from app.domain.records import FieldType, Reference, Snapshot, Value, Values
from app.ports import Delete, Insert, Page, Refused, Update, Write, Written
from app.sandbox import Fault
from tests.crm_sandbox import Crm, crm_in_process

pytestmark = pytest.mark.anyio


@pytest.fixture
async def crm() -> AsyncIterator[Crm]:
    """An organization with four lanes to it."""
    async with crm_in_process() as crm:
        yield crm


async def create(crm: Crm, table: str, *rows: Values) -> list[Snapshot]:
    """Rows that CRM has now."""
    outcomes = await crm.store.write(table, [Insert(uuid4(), row) for row in rows])
    found = [each.snapshot for each in outcomes if isinstance(each, Written) and each.snapshot]
    assert len(found) == len(rows), [each.error for each in outcomes if isinstance(each, Refused)]
    return found


async def pages(crm: Crm, table: str, fields: list[str], since: str | None = None) -> list[Page]:
    """All pages of changes."""
    return [page async for page in crm.store.changes(table, fields, since)]


# --- requests are counted ---


async def test_a_thousand_creates_take_as_many_requests_as_there_are_lanes(crm: Crm) -> None:
    await crm.store.definition("account")
    crm.forget_requests()
    await create(crm, "account", *({"name": f"Account {n}"} for n in range(1000)))
    assert crm.requests == ["POST 200 $batch"] * 4


async def test_one_write_is_one_request(crm: Crm) -> None:
    [old] = await create(crm, "account", {"name": "Adatum"})
    crm.forget_requests()
    await crm.store.write("account", [Update(old.id, {"name": "Adatum Ltd."}, old.version)])
    assert crm.requests == [f"PATCH 200 accounts({old.id})"]


async def test_a_thousand_rows_are_read_by_id_in_one_request(crm: Crm) -> None:
    rows = await create(crm, "account", *({"name": f"Account {n}"} for n in range(1000)))
    crm.forget_requests()
    found = await crm.store.get("account", [row.id for row in rows], ["name"])
    assert len(found) == 1000
    assert crm.requests == ["POST 200 $batch"]


async def test_nothing_changed_is_one_request(crm: Crm) -> None:
    await create(crm, "account", {"name": "Adatum"})
    watermark = (await pages(crm, "account", ["name"]))[-1].watermark
    crm.forget_requests()
    [page] = await pages(crm, "account", ["name"], watermark)
    assert (page.records, page.deleted) == ([], [])
    assert crm.requests == ["GET 200 accounts"]


async def test_an_entity_is_described_in_two_requests_and_then_remembered(crm: Crm) -> None:
    await crm.store.definition("contact")
    await crm.store.definition_of_set("contacts")
    assert crm.requests == [
        "GET 200 EntityDefinitions",
        "POST 200 $batch",
    ]


# --- definitions ---


async def test_a_definition_says_what_the_entity_holds(crm: Crm) -> None:
    contact = await crm.store.definition("contact")
    assert (contact.entity_set, contact.primary_key, contact.name_field) == (
        "contacts",
        ("contactid",),
        "fullname",
    )
    assert contact.tracks_changes
    parent = contact.fields["parentcustomerid"]
    assert (parent.type, parent.relation) == (FieldType.LOOKUP, ("account", "contact"))
    assert contact.fields["parentcustomeridtype"].relation == ("account", "contact")
    assert contact.fields["birthdate"].type is FieldType.DATE
    assert contact.fields["modifiedon"].type is FieldType.DATETIME
    assert contact.fields["emailaddress1"].length == 100
    assert not contact.fields["modifiedon"].updatable
    currency = await crm.store.definition_of_set("transactioncurrencies")
    assert currency.name == "transactioncurrency"
    assert currency.fields["isocurrencycode"].required
    assert [option.value for option in currency.fields["statecode"].options] == [0, 1]


async def test_an_attribute_that_does_not_exist_is_named(crm: Crm) -> None:
    with pytest.raises(InvalidMapping, match="nonsense"):
        await crm.store.get("account", [uuid4()], ["name", "nonsense"])


async def test_what_is_installed_later_is_found_without_a_restart() -> None:
    now = 0.0
    async with crm_in_process(solution_installed=False) as crm:
        store = Dataverse(crm.store.client, Metadata(crm.store.client, clock=lambda: now))
        with pytest.raises(TableNotFound):
            await store.definition("nav_accountstatistics")
        with pytest.raises(InvalidMapping):
            await store.get("account", [uuid4()], ["nav_accountstatisticsid"])
        crm.organization.settings.solution_installed = True
        crm.organization.reset()
        now += 11
        assert (await store.definition("nav_accountstatistics")).name_field == "nav_name"
        assert await store.get("account", [uuid4()], ["nav_accountstatisticsid"]) == {}


async def test_everyone_who_asks_at_once_shares_one_answer(crm: Crm) -> None:
    await asyncio.gather(*(crm.store.definition("account") for _ in range(10)))
    assert len(crm.requests) == 2


# --- values ---


async def test_values_of_every_kind_survive_both_ways(crm: Crm) -> None:
    values: dict[str, Value] = {
        "firstname": "Zoë",
        "lastname": "Doyle",
        "creditlimit": Decimal("123456789.0123"),
        "birthdate": dt.date(1970, 2, 28),
        "donotphone": True,
        "numberofchildren": 3,
        "description": 'Line one\nline two "quoted" \\ and €',
        "transactioncurrencyid": Reference(UUID(crm.organization.base_currency), "transactioncurrency"),
    }
    [row] = await create(crm, "contact", values)
    assert row.values == values
    assert (await crm.store.get("contact", [row.id], list(values)))[row.id].values == values


async def test_a_lookup_with_several_targets_says_where_it_points(crm: Crm) -> None:
    [account] = await create(crm, "account", {"name": "Adatum"})
    [person] = await create(
        crm, "contact", {"lastname": "Doyle", "parentcustomerid": Reference(account.id, "account")}
    )
    fields = ["parentcustomerid", "parentcustomeridtype", "ownerid", "owneridtype"]
    shown = (await crm.store.get("contact", [person.id], fields))[person.id].values
    assert shown["parentcustomeridtype"] == "account"
    assert shown["owneridtype"] == "systemuser"
    parent, owner = shown["parentcustomerid"], shown["ownerid"]
    assert isinstance(parent, Reference)
    assert (parent.id, parent.entity) == (account.id, "account")
    assert isinstance(owner, Reference)
    assert (owner.id, owner.entity) == (crm.user_id, "systemuser")


async def test_the_type_half_names_the_target_of_a_bare_reference(crm: Crm) -> None:
    [account] = await create(crm, "account", {"name": "Adatum"})
    await create(
        crm,
        "contact",
        {"lastname": "Doyle", "parentcustomerid": Reference(account.id), "parentcustomeridtype": "account"},
    )
    [row] = crm.rows("contact").values()
    assert row["parentcustomerid"] == str(account.id)


async def test_a_bare_reference_that_could_point_anywhere_is_refused_alone(crm: Crm) -> None:
    bad, good = await crm.store.write(
        "contact",
        [
            Insert(uuid4(), {"lastname": "Doyle", "parentcustomerid": Reference(uuid4())}),
            Insert(uuid4(), {"lastname": "Doyle"}),
        ],
    )
    assert isinstance(bad, Refused)
    assert isinstance(bad.error, InvalidValues)
    assert bad.error.errors[0].pointer == "/parentcustomerid"
    assert isinstance(good, Written)


async def test_a_lookup_can_be_emptied(crm: Crm) -> None:
    [account] = await create(crm, "account", {"name": "Adatum"})
    [person] = await create(
        crm, "contact", {"lastname": "Doyle", "parentcustomerid": Reference(account.id, "account")}
    )
    await crm.store.write("contact", [Update(person.id, {"parentcustomerid": None}, person.version)])
    shown = (await crm.store.get("contact", [person.id], ["parentcustomerid"]))[person.id]
    assert shown.values["parentcustomerid"] is None


async def test_the_answer_to_a_write_shows_what_crm_made_of_it(crm: Crm) -> None:
    [row] = await create(crm, "account", {"name": "Adatum", "creditlimit": Decimal("10.123456")})
    assert row.values["creditlimit"] == Decimal("10.1235")


async def test_a_create_in_another_state_takes_a_second_step(crm: Crm) -> None:
    created, plain = await create(
        crm,
        "quote",
        {"name": "A quote", "statecode": 1, "statuscode": 2},
        {"name": "Another", "statecode": 0},
    )
    assert (created.values["statecode"], created.values["name"]) == (1, "A quote")
    stored = crm.rows("quote")
    assert (stored[str(created.id)]["statecode"], stored[str(created.id)]["statuscode"]) == (1, 2)
    assert stored[str(plain.id)]["statecode"] == 0
    shown = (await crm.store.get("quote", [created.id], ["name"]))[created.id]
    assert shown.version == created.version


# --- refusals ---


async def test_a_refusal_names_the_row_and_carries_crms_own_words(crm: Crm) -> None:
    record_id = uuid4()
    [outcome] = await crm.store.write("account", [Insert(record_id, {"name": "x" * 200})])
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, CrmRefused)
    assert str(record_id) in outcome.error.detail
    assert "maximum allowed length of '160'" in outcome.error.detail
    assert outcome.error.extra["crm_code"] == "0x80044331"
    assert outcome.error.extra["crm_entity"] == "account"


async def test_a_reference_to_a_row_that_is_gone_is_told_apart_from_a_row_that_is_gone(crm: Crm) -> None:
    [row, gone] = await create(crm, "account", {"name": "Adatum"}, {"name": "Gone"})
    await crm.store.write("account", [Delete(gone.id)])
    refers: Values = {"primarycontactid": Reference(uuid4(), "contact")}
    writes: list[Write] = [
        Update(row.id, refers, row.version),
        Update(gone.id, refers),
        Insert(uuid4(), {"name": "A", **refers}),
    ]
    changed, deleted, created = await crm.store.write("account", writes)
    assert isinstance(deleted, Refused)
    assert isinstance(deleted.error, CrmRecordNotFound)
    for refused in (changed, created):
        assert isinstance(refused, Refused)
        assert isinstance(refused.error, CrmRefused)
        assert "refers to a row that is gone" in refused.error.detail


async def test_an_update_that_only_says_the_type_of_a_lookup_writes_nothing(crm: Crm) -> None:
    [row] = await create(crm, "account", {"name": "Adatum"})
    crm.forget_requests()
    [outcome] = await crm.store.write("account", [Update(row.id, {"owneridtype": "systemuser"}, row.version)])
    assert isinstance(outcome, Written)
    assert crm.requests == ["GET 200 accounts"]


async def test_writes_to_one_row_happen_in_their_order(crm: Crm) -> None:
    record_id = uuid4()
    outcomes = await crm.store.write(
        "account",
        [
            Insert(record_id, {"name": "One"}),
            Update(record_id, {"name": "Two"}),
            Delete(record_id),
            Insert(record_id, {"name": "Three"}),
        ],
    )
    assert [type(each) for each in outcomes] == [Written] * 4
    assert crm.rows("account")[str(record_id)]["name"] == "Three"


async def test_versions_that_crm_does_not_guard_are_compared_before_writing(crm: Crm) -> None:
    stale, fine = await create(crm, "account", {"name": "Stale"}, {"name": "Fine"})
    await crm.store.write("account", [Update(stale.id, {"name": "Theirs"})])
    table = replace(await crm.store.metadata.table("account"), guards_versions=False)
    outcomes = await write(
        crm.store.client,
        table,
        [
            Update(stale.id, {"name": "Ours"}, stale.version),
            Update(fine.id, {"name": "Ours"}, fine.version),
            Delete(stale.id, stale.version),
        ],
    )
    assert [type(each) for each in outcomes] == [Refused, Written, Refused]
    assert all(isinstance(each.error, StaleRecord) for each in outcomes if isinstance(each, Refused))
    assert crm.rows("account")[str(stale.id)]["name"] == "Theirs"


# --- changes ---


async def test_pages_are_small_if_asked_and_the_first_read_misses_nothing_meanwhile(crm: Crm) -> None:
    await create(crm, "account", *({"name": f"Account {n}"} for n in range(25)))
    crm.store._page_size = 10
    seen: dict[UUID, Snapshot] = {}
    watermark = None
    async for page in crm.store.changes("account", ["name"], None):
        seen |= {record.id: record for record in page.records}
        if watermark is None and len(seen) == 10:
            first = next(iter(seen))
            await crm.store.write("account", [Update(first, {"name": "Changed while it was read"})])
        watermark = page.watermark
    assert len(seen) == 25
    assert seen[first].values["name"] == "Changed while it was read"
    assert watermark is not None


async def test_an_expired_watermark_says_so(crm: Crm) -> None:
    watermark = (await pages(crm, "account", ["name"]))[-1].watermark
    crm.organization.expire_delta_tokens()
    with pytest.raises(WatermarkExpired):
        await pages(crm, "account", ["name"], watermark)


async def test_a_watermark_belongs_to_its_columns(crm: Crm) -> None:
    watermark = (await pages(crm, "account", ["name"]))[-1].watermark
    with pytest.raises(WatermarkExpired):
        await pages(crm, "account", ["name", "telephone1"], watermark)


async def test_a_delta_link_that_leads_elsewhere_is_not_followed(crm: Crm) -> None:
    watermark = (await pages(crm, "account", ["name"]))[-1].watermark
    assert watermark is not None
    crm.forget_requests()
    with pytest.raises(CrmRefused, match="another place"):
        await pages(crm, "account", ["name"], watermark.replace("http://127.0.0.1", "http://evil.example"))
    assert crm.requests == []


async def test_an_entity_without_change_tracking_is_followed_by_time() -> None:
    now = dt.datetime(2026, 11, 30, 12, 0, 0, tzinfo=dt.UTC)
    async with crm_in_process(tracked=(), clock=lambda: now) as crm:
        [old] = await create(crm, "account", {"name": "Old"})
        now += dt.timedelta(minutes=10)
        [new] = await create(crm, "account", {"name": "New"})
        first = await pages(crm, "account", ["name"])
        assert {record.id for page in first for record in page.records} == {old.id, new.id}
        watermark = first[-1].watermark
        assert watermark == "modified:2026-11-30T12:10:00Z"
        now += dt.timedelta(minutes=10)
        await crm.store.write("account", [Update(old.id, {"name": "Changed"})])
        [page] = await pages(crm, "account", ["name"], watermark)
        assert {record.values["name"] for record in page.records} == {"New", "Changed"}
        with pytest.raises(WatermarkExpired):
            await pages(crm, "account", ["name"], "delta:0:http://127.0.0.1:65000/api/data/v9.2/accounts")


# --- lists ---


async def test_a_lookup_in_a_filter_goes_by_its_logical_name(crm: Crm) -> None:
    [account] = await create(crm, "account", {"name": "Adatum"})
    inside, _ = await create(
        crm,
        "contact",
        {"lastname": "Inside", "parentcustomerid": Reference(account.id, "account")},
        {"lastname": "Outside"},
    )
    wanted = f"parentcustomerid eq {account.id} and lastname ne 'parentcustomerid'"
    listing = await crm.store.listing("contact", ["lastname"], filter=wanted)
    assert [record.id for record in listing.records] == [inside.id]
    assert await crm.store.count("contact", "parentcustomerid eq null") == 1


async def test_search_looks_at_name_and_mail(crm: Crm) -> None:
    await create(
        crm,
        "contact",
        {"lastname": "Doyle", "emailaddress1": "pat@adatum.example"},
        {"lastname": "Patrick", "emailaddress1": "x@y.example"},
        {"lastname": "Other", "emailaddress1": "other@y.example"},
    )
    listing = await crm.store.listing("contact", ["lastname"], search="pat")
    assert {record.values["lastname"] for record in listing.records} == {"Doyle", "Patrick"}


async def test_what_crm_says_against_a_filter_is_an_invalid_filter(crm: Crm) -> None:
    with pytest.raises(InvalidFilter):
        await crm.store.listing("account", ["name"], filter="substring(name,1) eq 'x'")
    with pytest.raises(InvalidFilter):
        await crm.store.listing("account", ["name"], cursor="bm90IG91cnM&evil")


async def test_more_rows_than_crm_counts_are_counted(crm: Crm) -> None:
    await create(crm, "account", *({"name": f"Account {n}"} for n in range(5003)))
    assert await crm.store.count("account", "statecode eq 0") == 5003


async def test_a_cursor_holds_no_host(crm: Crm) -> None:
    await create(crm, "account", *({"name": f"Account {n}"} for n in range(3)))
    listing = await crm.store.listing("account", None, limit=2)
    assert listing.cursor is not None
    rest = await crm.store.listing("account", None, limit=2, cursor=listing.cursor)
    assert len(rest.records) == 1
    assert rest.cursor is None


async def test_a_privilege_that_is_missing_is_reported_as_such(crm: Crm) -> None:
    crm.faults(Fault(r"GET .*/accounts", "403"))
    with pytest.raises(CrmRefused, match="privilege") as refused:
        await crm.store.get("account", [uuid4()], ["name"])
    assert refused.value.code == "crm-permission-missing"
