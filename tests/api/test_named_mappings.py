"""A mapping that the caller names has to exist and to serve what is asked of it."""

import httpx
import pytest

from tests.api.conftest import COMPANY

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "path",
    ["nav/customers", "nav/customers/10000", "couplings", "synch-errors", "synch-jobs"],
)
async def test_a_mistyped_mapping_is_no_empty_list(ready: httpx.AsyncClient, path: str) -> None:
    await ready.post(f"{COMPANY}/nav/customers", json={"no": "10000", "fields": {"Name": "Adatum"}})
    answer = await ready.get(f"{COMPANY}/{path}", params={"mapping": "NOPE"})
    assert (answer.status_code, answer.json()["code"]) == (404, "mapping-not-found"), answer.text
    assert "integration-table-mappings" in answer.json()["fix"]
    assert (await ready.get(f"{COMPANY}/{path}", params={"mapping": "CUSTOMER"})).status_code == 200


async def test_a_mistyped_mapping_restores_nothing(ready: httpx.AsyncClient) -> None:
    answer = await ready.post(f"{COMPANY}/couplings/restore", json={"mapping": "NOPE"})
    assert (answer.status_code, answer.json()["code"]) == (404, "mapping-not-found")
    answer = await ready.post(f"{COMPANY}/couplings/restore", json={"mapping": "CUSTOMER"})
    assert (answer.status_code, answer.json()["restored"]) == (200, 0)


async def test_a_mapping_of_another_table_says_what_it_serves(ready: httpx.AsyncClient) -> None:
    await ready.post(f"{COMPANY}/nav/customers", json={"no": "10000", "fields": {"Name": "Adatum"}})
    asked = {"mapping": "CONTACT"}
    for answer in (
        await ready.get(f"{COMPANY}/nav/customers", params=asked),
        await ready.get(f"{COMPANY}/nav/customers/10000", params=asked),
        await ready.get(f"{COMPANY}/nav/customers/10000/coupling/comparison", params=asked),
        await ready.post(f"{COMPANY}/nav/customers/10000/create-in-crm", params=asked),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "mapping-not-found"), answer.text
        assert "couples contacts with contact" in answer.json()["detail"]
        assert "customers" in answer.json()["detail"]
    mappings = (await ready.get(f"{COMPANY}/integration-table-mappings")).json()["items"]
    of_options = next(each["name"] for each in mappings if each["option_attribute"])
    options = await ready.get(f"{COMPANY}/nav/customers", params={"mapping": of_options})
    assert (options.status_code, options.json()["code"]) == (404, "mapping-not-found"), options.text
    assert "options" in options.json()["detail"]
