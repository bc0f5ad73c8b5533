"""Match-based coupling: records that are the same thing by their data."""

from uuid import UUID

import pytest

from app.domain.errors import InvalidMapping
from app.domain.records import Reference
from app.use_cases.couplings import couple
from app.use_cases.matching import Criterion, match
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio


async def test_a_unique_match_is_coupled_an_ambiguous_one_reported_and_left_alone(office: Office) -> None:
    for no, name in (("C0", "Adatum"), ("C1", "Twin"), ("C2", "Nobody"), ("C3", "Pair"), ("C4", "Pair")):
        await office.customer(no, Name=name)
    one = await office.account(name=" ADATUM")
    twins = {await office.account(name="Twin") for _ in range(2)}
    shared = await office.account(name="pair")
    criteria = [Criterion("Name", "name")]
    shown = await match(office.ctx, office.company, "CUSTOMER", criteria, preview=True)
    assert await office.couplings() == []
    report = await match(office.ctx, office.company, "CUSTOMER", criteria)
    assert report.coupled == shown.coupled
    assert [(pair.nav_no, pair.crm_ids) for pair in report.coupled] == [("C0", (one,))]
    ambiguous: dict[str, set[UUID]] = {pair.nav_no: set(pair.crm_ids) for pair in report.ambiguous}
    assert ambiguous == {"C1": twins, "C3": {shared}, "C4": {shared}}
    assert report.unmatched == 1
    again = await match(office.ctx, office.company, "CUSTOMER", criteria)
    assert again.coupled == []
    assert len(await office.couplings()) == 1


async def test_a_second_priority_tells_twins_apart(office: Office) -> None:
    await office.customer("C0", Name="Twin", Post_Code="1")
    await office.customer("C1", Name="Twin", Post_Code="2")
    ids = [await office.account(name="Twin", address1_postalcode=code) for code in ("1", "2")]
    criteria = [
        Criterion("Name", "name", priority=1),
        Criterion("Post_Code", "address1_postalcode", priority=2),
    ]
    report = await match(office.ctx, office.company, "CUSTOMER", criteria)
    assert {pair.nav_no: pair.crm_ids[0] for pair in report.coupled} == dict(
        zip(["C0", "C1"], ids, strict=True)
    )
    assert report.ambiguous == []


async def test_unmatched_records_are_created_by_a_full_run_when_asked(office: Office) -> None:
    await office.customer("C0", Name="Adatum")
    report = await match(
        office.ctx, office.company, "CUSTOMER", [Criterion("Name", "name")], create_unmatched=True
    )
    assert report.synch_job_id is not None
    async with office.ctx.uow() as tx:
        job = await tx.jobs.get(office.company.id, report.synch_job_id)
    await office.run(job=job)
    assert [row["name"] for row in office.accounts()] == ["Adatum"]


async def test_creating_the_unmatched_leaves_the_ambiguous_alone(office: Office) -> None:
    await office.customer("C0", Name="Adatum")
    await office.customer("C1", Name="Twin")
    twins = {await office.account(name="Twin") for _ in range(2)}
    report = await match(
        office.ctx, office.company, "CUSTOMER", [Criterion("Name", "name")], create_unmatched=True
    )
    assert [pair.nav_no for pair in report.ambiguous] == ["C1"]
    assert report.synch_job_id is not None
    async with office.ctx.uow() as tx:
        job = await tx.jobs.get(office.company.id, report.synch_job_id)
    await office.run(job=job)
    assert sorted(row["name"] for row in office.accounts()) == ["Adatum", "Twin", "Twin"]
    assert await office.numbers() == ["C0", "C1"]
    assert {coupling.nav_key for coupling in await office.couplings()} == {"C0"}
    await couple(office.ctx, office.company, "customers", "C1", crm_id=min(twins))
    assert (await office.run(job=job)).to_crm.inserted == 0
    assert len(await office.couplings()) == 2


async def test_lookups_are_compared_by_the_key_of_what_they_are_coupled_with(office: Office) -> None:
    accounts = []
    for no in ("10000", "20000"):
        await office.customer(no)
        await create_in_crm(office.ctx, office.company, "customers", no)
        accounts.append((await office.coupled(no)).crm_id)
        person = {"Name": "Ann Lee", "Type": "Person", "IntegrationCustomerNo": no}
        await office.nav.create("contacts", f"P{no}", person)
    ids = [
        await office.row(
            "contact", firstname="Ann", lastname="Lee", parentcustomerid=Reference(one, "account")
        )
        for one in accounts
    ]
    names = [Criterion("First_Name", "firstname"), Criterion("Surname", "lastname")]
    by_name = await match(office.ctx, office.company, "CONTACT", names, preview=True)
    assert (len(by_name.coupled), len(by_name.ambiguous)) == (0, 2)
    criteria = [*names, Criterion("IntegrationCustomerNo", "parentcustomerid")]
    report = await match(office.ctx, office.company, "CONTACT", criteria)
    found = {pair.nav_no: pair.crm_ids[0] for pair in report.coupled}
    assert found == dict(zip(["P10000", "P20000"], ids, strict=True))


async def test_what_cannot_stand_for_a_lookup_is_no_criterion(office: Office) -> None:
    with pytest.raises(InvalidMapping, match="cannot be compared") as refused:
        await match(office.ctx, office.company, "CONTACT", [Criterion("Surname", "parentcustomerid")])
    assert [problem.pointer for problem in refused.value.errors] == ["/criteria/0"]
