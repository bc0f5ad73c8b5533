"""What enabling a connection leaves in CRM for the button Dynamics NAV."""

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.sandbox import Fault
from app.solution import build
from app.use_cases.connection import disable_connection, enable_connection
from tests.integration.use_cases.house import House, a_house

pytestmark = pytest.mark.anyio
OURS: dict[str, Any] = {"solution_installed": False, "solutions": [build("1.0")]}


def connections(house: House) -> list[dict[str, Any]]:
    return list(house.organization.rows("navcrm_connection").values())


async def test_enabling_puts_the_company_where_the_button_looks(engine: AsyncEngine) -> None:
    async with a_house(engine, {}, **OURS) as house:
        await house.connect()
        (row,) = connections(house)
        assert (row["navcrm_name"], row["navcrm_company"], row["statecode"]) == ("CRONUS", "cronus", 0)
        assert row.get("navcrm_serviceurl") is None


async def test_enabling_again_leaves_what_an_administrator_changed(engine: AsyncEngine) -> None:
    async with a_house(engine, {}, **OURS) as house:
        await house.connect()
        (row,) = connections(house)
        row["navcrm_serviceurl"] = "https://navcrm.cronus.example"
        await disable_connection(house.ctx, house.company)
        await enable_connection(house.ctx, house.company)
        assert [each["navcrm_serviceurl"] for each in connections(house)] == ["https://navcrm.cronus.example"]


async def test_the_connection_is_enabled_though_crm_refuses_the_row(engine: AsyncEngine) -> None:
    refusing = Fault("PATCH .*navcrm_connections", kind="403", every=1)
    async with a_house(engine, {}, **OURS, faults=[refusing]) as house:
        await house.connect()
        assert connections(house) == []
        async with house.ctx.uow() as tx:
            found = await tx.connections.find(house.company.id)
        assert found is not None
        assert found.is_enabled


async def test_without_our_solution_nothing_is_written(engine: AsyncEngine) -> None:
    async with a_house(engine, {}) as house:
        await house.connect()
        assert house.organization.rows("nav_connection") == {}
