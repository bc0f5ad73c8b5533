"""What a request to the API costs: the trips to PostgreSQL of one that asks alone, and of many at the same time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from app.domain.access import Scope
from app.main import create_app
from app.settings import Settings
from app.use_cases.api_keys import create_api_key
from tests.integration.counts.plant import Plant
from tests.integration.db.memory import KEY

pytestmark = pytest.mark.anyio
RECORD = "/nav/customers/K0000007"
AT_ONCE = 40
PING = ";"
_trips: ContextVar[list[str] | None] = ContextVar("trips", default=None)
"""Where a request of this test notes its trips; what the service does of itself now and then is none of them."""


class Desk:
    """A client with an API key, and the meter on the database of the service that it asks."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.trips: list[str] = []
        """Everything that was sent to PostgreSQL for requests, BEGIN and COMMIT included."""

    async def ask(self, path: str, headers: dict[str, str]) -> int:
        """The status of the answer about the company."""
        token = _trips.set(self.trips)
        try:
            answer = await self.client.get(f"/api/v1/companies/cronus{path}", headers=headers)
        finally:
            _trips.reset(token)
        return answer.status_code

    async def get(self, path: str, key: str | None = None) -> int:
        """The same, of a caller with another key where one is given."""
        return await self.ask(path, {} if key is None else {"Authorization": f"Bearer {key}"})

    async def cost(self, path: str, key: str | None = None, *, status: int = 200) -> list[str]:
        """The trips of such a request that is not the first of its kind."""
        for _ in range(2):
            await self.rest()
            assert await self.get(path, key) == status
        return await self.rest()

    async def rest(self) -> list[str]:
        """What was sent so far, which the driver tells a little later; counts from none again."""
        await asyncio.sleep(0.01)
        told = list(self.trips)
        self.trips.clear()
        return told


@pytest.fixture
async def desk(plant: Plant, database: str) -> AsyncIterator[Desk]:
    """A desk at the plant, whose company is connected and set up and has ten coupled customers."""
    await plant.load(10)
    _, token = await create_api_key(plant.office.ctx, "web shop", [Scope.READ])
    app = create_app(
        Settings(_env_file=None, database_url=database, secret_keys=KEY, rate_limit_per_minute=0)
    )
    headers = {"Authorization": f"Bearer {token}"}
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://navcrm.test", headers=headers
    )
    desk = Desk(client)
    with metered():
        async with app.router.lifespan_context(app), client:
            yield desk


@contextmanager
def metered() -> Iterator[None]:
    """Notes every statement, and what new connections send of themselves: the beginnings and ends of transactions."""

    def statement(*args: Any) -> None:
        trips = _trips.get()
        if trips is not None:
            trips.append(" ".join(args[2].split())[:80])

    def connected(connection: Any, record: object) -> None:
        connection.driver_connection.add_query_logger(Listener().hear)

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Pool, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Pool, "connect", connected)


class Listener:
    """Hears what one connection sends of itself. Whether it still stands is asked after a second without use, in a
    transaction of its own: on a busy machine that befalls any request, and is no cost of it."""

    def __init__(self) -> None:
        self._before = ""
        self._asks = False

    def hear(self, sent: Any) -> None:
        """What was sent, as the driver tells it."""
        trips, before, self._before = _trips.get(), self._before, str(sent.query)
        if trips is None:
            return
        if self._asks:  # the end of that transaction
            self._asks = False
        elif self._before == PING:
            trips.remove(before)
            self._asks = True
        else:
            trips.append(self._before)


async def test_a_record_is_three_statements_without_a_transaction(desk: Desk) -> None:
    """Who asks and about which company; the record; its coupling."""
    trips = await desk.cost(RECORD)
    assert 0 < len(trips) <= 3, trips
    assert all(sent.startswith("SELECT") for sent in trips), trips


async def test_a_page_of_records_is_as_many(desk: Desk) -> None:
    trips = await desk.cost("/nav/customers")
    assert len(trips) <= 3, trips


async def test_what_is_not_there_is_two_statements(desk: Desk) -> None:
    for path in ("/nav/customers/nobody", "/nav-tables/nothing"):
        trips = await desk.cost(path, status=404)
        assert len(trips) <= 2, trips


async def test_a_stranger_is_one_statement_and_the_count_of_refusals(desk: Desk) -> None:
    refused = await desk.cost(RECORD, "nck_guess", status=401)
    assert len(refused) <= 4, refused
    assert (await desk.ask("/nav/customers", {"Authorization": ""}), await desk.rest()) == (401, [])


async def test_those_who_ask_at_the_same_time_share_their_trips(desk: Desk) -> None:
    alone = await desk.cost(RECORD)
    answers = await asyncio.gather(*(desk.get(f"/nav/customers/K000000{n % 10}") for n in range(AT_ONCE)))
    assert answers == [200] * AT_ONCE
    together = await desk.rest()
    assert len(together) <= 3 * len(alone), together
