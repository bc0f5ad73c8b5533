"""Lists that people walk through while others work: what was there from beginning to end is shown exactly once."""

from collections.abc import Awaitable, Callable

import pytest

from app.ports import Context
from app.use_cases.records import crm_list, nav_list
from app.use_cases.synchronize import create_in_crm
from tests.integration.fuses import Fuse, fused
from tests.integration.use_cases.office import Office

pytestmark = pytest.mark.anyio

SOME = ("C10", "C20", "C30", "C40", "C50", "C60")
NARROWED = pytest.mark.parametrize("coupled", [None, True, False])
Pages = Callable[[str | None], Awaitable[tuple[list[str], str | None]]]


async def walk(page: Pages, meanwhile: Callable[[int], Awaitable[None]]) -> list[str]:
    """What all pages show; after each of them others work."""
    shown: list[str] = []
    cursor = None
    for number in range(20):
        found, cursor = await page(cursor)
        shown += found
        if cursor is None:
            return shown
        await meanwhile(number)
    raise AssertionError("the list never ends")


async def some_customers(office: Office, coupled: bool | None) -> None:
    """Six customers, all of them coupled if coupled ones are to be listed."""
    for no in SOME:
        await office.customer(no)
        if coupled:
            await create_in_crm(office.ctx, office.company, "customers", no)


@NARROWED
async def test_a_walk_through_nav_shows_each_old_record_once(office: Office, coupled: bool | None) -> None:
    await some_customers(office, coupled)

    async def page(cursor: str | None) -> tuple[list[str], str | None]:
        items, following = await nav_list(
            office.ctx, office.company, "customers", coupled=coupled, limit=2, cursor=cursor
        )
        return [item.no for item in items], following

    async def meanwhile(number: int) -> None:
        await office.customer(f"A{number}")
        await office.customer(f"C{number}5")
        for no in SOME:
            await office.change_nav("customers", no, Name=f"Changed {number}")

    shown = await walk(page, meanwhile)
    assert [no for no in shown if no in SOME] == list(SOME)
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("added", [True, False])
async def test_what_comes_or_goes_while_a_page_is_read_moves_nothing_else(
    office: Office, coupled: bool, added: bool
) -> None:
    await some_customers(office, coupled)
    for step in range(1, 8):
        await office.customer(f"B{step}")

    async def listed(ctx: Context, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
        items, following = await nav_list(
            ctx, office.company, "customers", coupled=coupled, limit=limit, cursor=cursor
        )
        return [item.no for item in items], following

    async def somebody_is_quicker() -> None:
        if added:
            await office.customer(f"A{step}")
        else:
            await office.nav.remove("customers", f"B{step}")

    fuse = Fuse()
    for step in range(1, 8):
        before, _ = await listed(office.ctx, None, 100)
        fuse.light(step, after=True, instead=somebody_is_quicker)
        first, cursor = await listed(fused(office.ctx, fuse), None, 2)
        fuse.put_out()
        rest, _ = await listed(office.ctx, cursor, 100)
        assert [no for no in (*first, *rest) if no not in (f"A{step}", f"B{step}")] == [
            no for no in before if no != f"B{step}"
        ], step


@NARROWED
async def test_a_walk_through_crm_shows_each_old_row_once(office: Office, coupled: bool | None) -> None:
    await some_customers(office, coupled)
    rows = {str(await office.account(name=f"Account {number}")) for number in range(0 if coupled else 6)}

    async def page(cursor: str | None) -> tuple[list[str], str | None]:
        items, following = await crm_list(
            office.ctx, office.company, "accounts", coupled=coupled, limit=2, cursor=cursor
        )
        return [str(item.id) for item in items], following

    async def meanwhile(number: int) -> None:
        made.add(str(await office.account(name=f"Made meanwhile {number}")))
        for row in old:
            await office.change_crm("account", row, name=f"Changed {number}")

    made: set[str] = set()
    items, _ = await crm_list(office.ctx, office.company, "accounts", coupled=coupled)
    old = [item.id for item in items]
    assert rows <= {str(row) for row in old}
    assert len(old) == 6
    shown = await walk(page, meanwhile)
    assert [row for row in shown if row not in made] == [str(row) for row in old]
    assert len(shown) == len(set(shown))


async def test_the_few_uncoupled_rows_among_many_are_found_in_a_few_requests(office: Office) -> None:
    for no in SOME:
        await office.customer(no)
        await create_in_crm(office.ctx, office.company, "customers", no)
    new = {str(await office.account(name=f"New {number}")) for number in range(2)}
    shown: set[str] = set()
    cursor = None
    for _ in range(3):
        office.forget_requests()
        items, cursor = await crm_list(
            office.ctx, office.company, "accounts", coupled=False, limit=1, cursor=cursor
        )
        shown |= {str(item.id) for item in items}
        assert len(office.requests) <= 4, office.requests  # pages of 1, 4 and 16 rows, and where to go on
        if cursor is None:
            break
    assert (shown, cursor) == (new, None)
