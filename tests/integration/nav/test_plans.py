"""What a set costs does not follow the size of the company."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.nav.contacts import COMPANIES_OF_CUSTOMERS

pytestmark = pytest.mark.anyio

RELATIONS = 40_000
FILL = text(
    """
    INSERT INTO nav_record (company_id, nav_table, key, fields)
    SELECT 1, 'contact-business-relations', 'CT' || n || ',CUST', jsonb_build_object(
        'Contact_No', 'CT' || n, 'Business_Relation_Code', 'CUST', 'Link_to_Table', 'Customer', 'No', 'C' || n)
    FROM generate_series(1, :relations) AS n
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


def _looked_at(plan: dict[str, object]) -> float:
    """The rows that a plan read from the table, those that it left out included."""
    parts = plan.get("Plans", [])
    assert isinstance(parts, list)
    numbers = [plan.get("Actual Rows", 0), plan.get("Rows Removed by Filter", 0)]
    own = sum(float(str(each)) for each in numbers) * float(str(plan.get("Actual Loops", 1)))
    return (own if "Relation Name" in plan else 0) + sum(_looked_at(part) for part in parts)
