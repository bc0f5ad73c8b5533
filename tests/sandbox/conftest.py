"""An organization of its own for every test, spoken to as a client would."""

import datetime as dt
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.sandbox import Organization, create_sandbox

ORG = "https://contoso.crm4.dynamics.com"
API = f"{ORG}/api/data/v9.2/"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 1, 31, 7, 15, 9, 400_000, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += dt.timedelta(**span)


class Crm:
    """The Web API, with a token already in hand. Addresses are below the service root."""

    def __init__(self, app: Starlette, http: httpx.AsyncClient) -> None:
        self.app = app
        self.http = http
        self.organization: Organization = app.state.organization

    async def authenticate(self) -> None:
        settings = self.organization.settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
            "scope": f"{ORG}/.default",
        }
        answer = await self.http.post(f"{ORG}/{settings.tenant_id}/oauth2/v2.0/token", data=form)
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path, json=body, headers=names)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.send("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.send("POST", path, body if body is not None else {}, **headers)

    async def patch(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.send("PATCH", path, body if body is not None else {}, **headers)

    async def delete(self, path: str, **headers: str) -> httpx.Response:
        return await self.send("DELETE", path, **headers)

    async def create(self, entity_set: str, **values: Any) -> str:
        """Create a row and return its id; `__` in a name stands for `@odata.`."""
        body = {name.replace("__", "@odata."): value for name, value in values.items()}
        answer = await self.post(entity_set, body)
        assert answer.status_code == 204, answer.text
        return answer.headers["OData-EntityId"].rpartition("(")[2].rstrip(")")

    async def row(self, entity_set: str, row_id: str, select: str = "") -> dict[str, Any]:
        """A row as it is now."""
        answer = await self.get(f"{entity_set}({row_id})" + (f"?$select={select}" if select else ""))
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    async def values(self, path: str, **headers: str) -> list[dict[str, Any]]:
        """The rows of one answer."""
        answer = await self.get(path, **headers)
        assert answer.status_code == 200, answer.text
        value: list[dict[str, Any]] = answer.json()["value"]
        return value


def code(answer: httpx.Response) -> str:
    """The error code of a refusal."""
    return str(answer.json()["error"]["code"])


def message(answer: httpx.Response) -> str:
    """The error message of a refusal."""
    return str(answer.json()["error"]["message"])


@pytest.fixture
def clock() -> Clock:
    return Clock()


Connect = Callable[..., Any]


@pytest.fixture
async def connect(clock: Clock) -> AsyncIterator[Connect]:
    """Makes an organization with the given settings and a client of it."""
    opened: list[httpx.AsyncClient] = []

    async def open_client(**settings: Any) -> Crm:
        app = create_sandbox(clock=clock, **settings)
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=API)
        opened.append(http)
        crm = Crm(app, http)
        await crm.authenticate()
        return crm

    yield open_client
    for http in opened:
        await http.aclose()


@pytest.fixture
async def crm(connect: Connect) -> Crm:
    """An organization with the NAV solution."""
    client: Crm = await connect()
    return client
