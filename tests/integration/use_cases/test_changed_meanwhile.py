"""A mapping that somebody changes while a run of it is under way."""

import pytest

from app.domain.mapping import Direction
from app.use_cases.mappings import change_mapping
from app.use_cases.synchronize import create_in_crm
from tests.integration.use_cases.office import Office, Quiet

pytestmark = pytest.mark.anyio

TO = Direction.TO_CRM


async def test_what_a_changed_filter_lets_in_comes_over_although_a_run_was_under_way(office: Office) -> None:
    await office.customer("C0", City="Berlin")
    await create_in_crm(office.ctx, office.company, "customers", "C0")
    narrow = {"nav_filter": "City eq 'Berlin'", "synch_only_coupled_records": False}
    await change_mapping(office.ctx, office.company, "CUSTOMER", narrow)
    await office.run(direction=TO)
    await office.customer("C1", City="Rome")

    class Meanwhile(Quiet):
        """Somebody widens the filter after the run has begun."""

        done = False

        async def progress(self, *args: object, **rest: object) -> None:
            if not self.done:
                self.done = True
                await change_mapping(office.ctx, office.company, "CUSTOMER", {"nav_filter": None})

    await office.run(direction=TO, report=Meanwhile())
    assert (await office.run(direction=TO)).to_crm.inserted == 1
    assert (await office.run(direction=TO)).wrote_nothing
