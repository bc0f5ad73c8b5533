"""Companies."""

import pytest

from app.domain.company import Generation
from app.domain.errors import AlreadyExists, CompanyNotFound, Invalid, PreconditionFailed, RuleBroken
from app.use_cases.companies import change_company, create_company, delete_company
from app.use_cases.companies import test_nav as reach_nav
from tests.integration.db.memory import a_coupling
from tests.integration.use_cases.house import House

pytestmark = pytest.mark.anyio


async def test_a_company_is_created_once(house: House) -> None:
    assert house.company.nav["kind"] == "embedded"
    assert house.company.defaults_generation is Generation.NAV2018
    with pytest.raises(AlreadyExists):
        await create_company(house.ctx, name="cronus")


@pytest.mark.parametrize(
    "values, pointer",
    [
        ({"name": "Cronus Ltd."}, "/name"),
        ({"name": ""}, "/name"),
        ({"local_currency": "pounds"}, "/local_currency"),
        ({"nav": {"kind": "navision"}}, "/nav/kind"),
        ({"nav_web_client_url": "javascript:alert(1)"}, "/nav_web_client_url"),
        ({"nav_web_client_url": "https:///nothing"}, "/nav_web_client_url"),
        ({"nav_web_client_url": "https://me@nav.example/"}, "/nav_web_client_url"),
    ],
)
async def test_what_is_wrong_is_said_by_field(house: House, values: dict[str, object], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        await create_company(house.ctx, **{"name": "second"} | values)  # type: ignore[arg-type]  # any field
    assert [problem.pointer for problem in refused.value.errors] == [pointer]


async def test_a_company_changes_but_its_name_stays(house: House) -> None:
    changed = await change_company(
        house.ctx, "cronus", {"display_name": "CRONUS Ltd.", "nav_web_client_url": "https://nav.example/NAV"}
    )
    assert (changed.display_name, changed.nav_web_client_url) == ("CRONUS Ltd.", "https://nav.example/NAV")
    with pytest.raises(PreconditionFailed):
        await change_company(house.ctx, "cronus", {"display_name": "x"}, revision=house.company.revision)
    with pytest.raises(Invalid):
        await change_company(house.ctx, "cronus", {"name": "other"})


async def test_settings_of_a_connector_that_are_left_out_stay_while_its_address_does(house: House) -> None:
    remote = {"kind": "nav_odata", "url": "https://nav.example/OData", "password": "s3cret"}
    await change_company(house.ctx, "cronus", {"nav": remote})
    changed = await change_company(house.ctx, "cronus", {"nav": {"kind": "nav_odata", "user": "sync"}})
    assert changed.nav == remote | {"user": "sync"}
    moved = await change_company(
        house.ctx, "cronus", {"nav": {"kind": "nav_odata", "url": "https://elsewhere.example"}}
    )
    assert moved.nav == {"kind": "nav_odata", "url": "https://elsewhere.example"}


async def test_a_coupled_company_cannot_exchange_its_nav(house: House) -> None:
    async with house.ctx.uow() as tx:
        await tx.couplings.reserve(house.company.id, [a_coupling()])
    with pytest.raises(RuleBroken):
        await change_company(
            house.ctx, "cronus", {"nav": {"kind": "nav_odata", "url": "https://nav.example"}}
        )


async def test_a_deleted_company_is_gone_with_everything_below_it(connected: House) -> None:
    nav = connected.ctx.sides.nav(connected.company)
    await nav.create("customers", "10000", {"Name": "Adatum"})
    await delete_company(connected.ctx, "cronus")
    with pytest.raises(CompanyNotFound):
        await connected.reload()
    assert not (await nav.records("customers"))[0]


async def test_the_nav_side_says_what_it_found(house: House) -> None:
    assert (await reach_nav(house.ctx, house.company))["kind"] == "embedded"
