"""A synch job of an option mapping reads the options of CRM again (nav-behaviour 10.9)."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from app.main import opened
from app.settings import Settings
from tests.api.conftest import COMPANY

pytestmark = pytest.mark.anyio
TERMS = f"{COMPANY}/integration-table-mappings/PAYMENT TERMS"


@pytest.fixture
async def app(one_app: FastAPI, settings: Settings) -> AsyncIterator[FastAPI]:
    async with opened(one_app, settings, worker=True):
        yield one_app


async def test_an_option_that_nav_lacks_is_made(ready: httpx.AsyncClient) -> None:
    assert (await ready.delete(f"{COMPANY}/nav/payment-terms/NET60")).status_code == 204

    planned = await ready.post(f"{TERMS}/synchronize", json={"mode": "full", "preview": True})
    assert (planned.json()["directions"]["from_crm"]["inserted"], await missing(ready)) == (1, ["Net 60"])

    started = await ready.post(f"{TERMS}/synchronize", json={"mode": "full"})
    address = started.headers["Location"]
    await ready.get(f"{address}/events")  # until the job has ended
    job = (await ready.get(address)).json()
    assert (job["status"], job["inserted"], job["unmodified"]) == ("succeeded", 1, 3)
    (made,) = (await ready.get(f"{address}/outcomes")).json()["items"]
    assert (made["action"], made["nav_no"], await missing(ready)) == ("inserted", "NET60", [])


async def test_the_options_to_review_come_in_pages(ready: httpx.AsyncClient) -> None:
    assert (await ready.delete(f"{COMPANY}/nav/payment-terms/NET60")).status_code == 204
    review = f"{COMPANY}/option-review"
    whole = (await ready.get(review)).json()
    assert whole["next_cursor"] is None
    asked: dict[str, str | None] = {"limit": "5"}
    read: list[dict[str, object]] = []
    while not read or asked["cursor"] is not None:
        page = (await ready.get(review, params=asked)).json()
        assert 0 < len(page["items"]) <= 5
        read += page["items"]
        asked["cursor"] = page["next_cursor"]
    assert (read, len(read) > 5) == (whole["items"], True)


async def missing(client: httpx.AsyncClient) -> list[str]:
    """The payment terms that CRM has as an option and NAV has not."""
    review = (await client.get(f"{COMPANY}/option-review")).json()["items"]
    return [
        each["option_label"]
        for each in review
        if each["mapping"] == "PAYMENT TERMS" and each["state"] == "missing_in_nav"
    ]
