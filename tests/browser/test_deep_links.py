"""Deep links as a person follows them.

In a headless Chromium where the machine has one; elsewhere the same pages are fetched over HTTP and their markup is
read (see `browsers.py`), so that the tests say the same on every machine and more where there is a browser.
"""

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.api.conftest import COMPANY, CONNECTION
from tests.browser.conftest import Walk

pytestmark = pytest.mark.anyio
UNKNOWN = "0199aaaa-0000-7000-8000-000000000000"
PHONE = 360


async def a_coupled_customer(walk: Walk, no: str) -> str:
    """A customer and the id of its account."""
    await walk.admin.post(f"{COMPANY}/nav/customers", json={"no": no, "fields": {"Name": "Kern & Müller"}})
    made = await walk.admin.post(f"{COMPANY}/nav/customers/{quote(no, safe='')}/create-in-crm")
    assert made.status_code == 201, made.text
    found: str = made.json()["coupling"]["crm_id"]
    return found


KEYS = (("10000", "10000"), ("K&M/01#%+", "''K&M/01#%+''"), ("D'ARC", "''D''ARC''"))


async def test_the_button_lands_on_the_card_in_the_web_client(walk: Walk) -> None:
    for no, literal in KEYS:
        account = (await a_coupled_customer(walk, no)).upper()
        seen = await walk.browser.visit(
            f"{walk.service}/open/nav?company=cronus&entity=account&id=%7B{account}%7D"
        )
        assert (seen.title, seen.text) == ("NAV", "Card in the NAV web client")
        landed = urlsplit(seen.address)
        assert f"{landed.scheme}://{landed.netloc}{landed.path}" == f"{walk.nav}/DynamicsNAV110/"
        query = parse_qs(landed.query)
        assert (query["page"], query["company"]) == (["21"], ["CRONUS & Söhne <Ltd.>"])
        assert query["filter"] == [f"'No.' IS '{literal}'"]


PAGES: tuple[tuple[str, str, str], ...] = (
    ("/open/nav", "This link does not work", "something is missing"),
    ("/open/nav?company=cronus&entity=account&id=10000", "This link does not work", "10000"),
    (f"/open/nav?company=cronus&entity=account&id={UNKNOWN}", "Not coupled", "This account is not coupled"),
    (f"/open/nav?company=cronus&entity=systemuser&id={UNKNOWN}", "Not coupled", "This user is not coupled"),
    (f"/open/nav?company=%3Cscript%3Edocument.title%3D1%3C/script%3E&entity=account&id={UNKNOWN}",
     "Unknown company", "<script>document.title=1</script>"),
    (f"/open/nav?company={'w' * 3000}&entity=account&id={UNKNOWN}", "Unknown company", f"{'w' * 100}…"),
    ("/open/crm?company=cronus&table=customers&no=%3Cb%3E1", "No such record", "<b>1"),
)  # fmt: skip


@pytest.mark.parametrize("width", [1280, PHONE])
async def test_a_link_that_leads_nowhere_explains_itself_on_any_screen(walk: Walk, width: int) -> None:
    for path, title, part in PAGES:
        seen = await walk.browser.visit(f"{walk.service}{path}", width)
        assert (seen.title, seen.fits) == (title, True), path
        assert title in seen.text
        assert part in seen.text


async def test_without_an_enabled_connection_the_page_names_the_company(walk: Walk) -> None:
    account = await a_coupled_customer(walk, "10000")
    await walk.admin.patch(CONNECTION, json={"is_enabled": False})
    seen = await walk.browser.visit(
        f"{walk.service}/open/nav?company=cronus&entity=account&id={account}", PHONE
    )
    assert (seen.title, seen.fits) == ("Not enabled", True)
    assert "between CRONUS & Söhne <Ltd.> and Dynamics CRM" in seen.text


async def test_without_the_address_of_the_client_the_page_says_who_can_set_it(walk: Walk) -> None:
    account = await a_coupled_customer(walk, "10000")
    await walk.admin.patch(COMPANY, json={"nav_web_client_url": None})
    seen = await walk.browser.visit(f"{walk.service}/open/nav?company=cronus&entity=account&id={account}")
    assert seen.title == "No address of NAV"
    assert "An administrator can set it" in seen.text
