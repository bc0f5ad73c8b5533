"""What a set costs does not follow the size of the company."""

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Generation
from app.nav.contacts import COMPANIES_OF_CUSTOMERS
from app.nav.definitions import nav_tables
from app.nav.expressions import expression
from app.nav.tables import nav_record

pytestmark = pytest.mark.anyio

RELATIONS = 40_000
GROUPS, PRICES = 20, 1000
FILL = text(
    """
    INSERT INTO nav_record (company_id, nav_table, key, fields)
    SELECT 1, 'contact-business-relations', 'CT' || n || ',CUST', jsonb_build_object(
        'Contact_No', 'CT' || n, 'Business_Relation_Code', 'CUST', 'Link_to_Table', 'Customer', 'No', 'C' || n)
    FROM generate_series(1, :relations) AS n
    """
)

FILL_PRICES = text(
    """
    INSERT INTO nav_record (company_id, nav_table, key, fields)
    SELECT 1, 'customer-price-groups', 'G' || n, '{}'::jsonb FROM generate_series(0, :groups - 1) AS n
    UNION ALL
    SELECT 1, 'sales-prices', 'I' || n, jsonb_build_object(
        'Sales_Type', 'Customer Price Group', 'Sales_Code', 'G' || n % :groups, 'Currency_Code', 'EUR')
    FROM generate_series(1, :prices) AS n
    """
)


async def test_the_companies_of_a_set_of_customers_are_looked_up_one_by_one(engine: AsyncEngine) -> None:
    """A plan that reads all relations was taken from some twenty thousand on."""
    customers = [f"C{number}" for number in range(1, RELATIONS, RELATIONS // 1000)]
    async with engine.begin() as connection:
        await connection.execute(FILL, {"relations": RELATIONS})
        await connection.execute(text("ANALYZE nav_record"))
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {COMPANIES_OF_CUSTOMERS.text}")
        given = {"company": 1, "customers": customers}
        (explained,) = (await connection.execute(explain, given)).scalars().one()
        found = (await connection.execute(COMPANIES_OF_CUSTOMERS, given)).all()
    assert {row[0]: row[1] for row in found} == {no: f"CT{no[1:]}" for no in customers}
    assert _looked_at(explained["Plan"]) <= 3 * len(customers)


async def test_the_currency_of_a_group_is_told_by_its_own_prices(engine: AsyncEngine) -> None:
    """A page of groups read all prices of the company for each: seconds, and minutes with many of both."""
    groups = nav_tables(Generation.NAV2018)["customer-price-groups"]
    currency = select(nav_record.c.key, expression(groups, "Prices_Currency_Code")).where(
        nav_record.c.company_id == 1, nav_record.c.nav_table == groups.name
    )
    compiled = currency.compile(engine.sync_engine, compile_kwargs={"literal_binds": True})
    async with engine.begin() as connection:
        await connection.execute(FILL_PRICES, {"groups": GROUPS, "prices": PRICES})
        await connection.execute(text("ANALYZE nav_record"))
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}")
        found = (await connection.execute(currency)).all()
        (plan,) = explained.scalars().one()
    assert {row[0]: row[1] for row in found} == {f"G{number}": "EUR" for number in range(GROUPS)}
    assert _looked_at(plan["Plan"]) <= 2 * (PRICES + GROUPS)


def _looked_at(plan: dict[str, object]) -> float:
    """The rows that a plan read from the table, those that it left out included."""
    parts = plan.get("Plans", [])
    assert isinstance(parts, list)
    numbers = [plan.get("Actual Rows", 0), plan.get("Rows Removed by Filter", 0)]
    own = sum(float(str(each)) for each in numbers) * float(str(plan.get("Actual Loops", 1)))
    return (own if "Relation Name" in plan else 0) + sum(_looked_at(part) for part in parts)
