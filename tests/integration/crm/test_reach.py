"""Requests reach the CRM that was configured and nothing else, whatever it answers and wherever its name leads."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.crm.client import DataverseClient
from app.crm.connector import Connector
from app.crm.reach import forbidden
from app.crm.rows import pages
from app.crm.wire import Request
from app.domain.errors import CrmRefused, CrmUnavailable, InvalidServerUrl, LoginRefused
from tests.crm_sandbox import QUICK, served, setup_for

pytestmark = pytest.mark.anyio
ROOT = "/api/data/v9.2"


@dataclass
class Elsewhere:
    """A server that nobody configured, and what it was asked."""

    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: HttpRequest) -> Response:
        self.asked.append(request.url.path)
        return JSONResponse({"value": [], "access_token": "t", "expires_in": 3600})


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    found = Elsewhere()
    app = Starlette(routes=[Route("/{path:path}", found.answer, methods=["GET", "POST"])])
    async with served(app) as url:
        found.url = url
        yield found


@asynccontextmanager
async def crm_that_answers(answer: Response, token: Response | None = None) -> AsyncIterator[DataverseClient]:
    """A client of a CRM that answers everything with this, and its login with that."""

    async def login(request: HttpRequest) -> Response:
        return token or JSONResponse({"access_token": "t", "expires_in": 3600})

    async def rows(request: HttpRequest) -> Response:
        return answer

    routes = [Route("/{tenant}/oauth2/v2.0/token", login, methods=["POST"]), Route("/{path:path}", rows)]
    connector = Connector(patience=changed(QUICK, tries=1))
    async with served(Starlette(routes=routes)) as url:
        try:
            yield connector.open(1, setup_for(url)).client
        finally:
            await connector.aclose()


async def read(client: DataverseClient, path: str) -> list[dict[str, Any]]:
    return [page async for page in pages(client, path, {}, "accounts")]


async def test_a_link_to_the_next_page_elsewhere_is_not_followed(elsewhere: Elsewhere) -> None:
    for link in (
        f"{elsewhere.url}{ROOT}/accounts?page=2",
        f"//{elsewhere.url.partition('//')[2]}{ROOT}/accounts",
        f"http://127.0.0.1@{elsewhere.url.partition('//')[2]}{ROOT}/accounts",
    ):
        async with crm_that_answers(JSONResponse({"value": [], "@odata.nextLink": link})) as client:
            with pytest.raises((CrmRefused, CrmUnavailable)):
                await read(client, "accounts")
    assert elsewhere.asked == []


async def test_a_link_to_another_part_of_the_same_host_is_not_followed() -> None:
    async with crm_that_answers(JSONResponse({"value": []})) as client:
        for path in ("/admin", "/api/data/v9.2x/accounts", "/"):
            with pytest.raises(CrmRefused, match="another place"):
                await read(client, f"{client.server_url}{path}")


async def test_a_link_to_changes_elsewhere_is_not_followed(elsewhere: Elsewhere) -> None:
    """As it would be if somebody had put it into the database in place of the one that CRM gave."""
    async with crm_that_answers(JSONResponse({"value": []})) as client:
        with pytest.raises(CrmRefused, match="another place"):
            await client.send(Request("GET", f"{elsewhere.url}{ROOT}/accounts?$deltatoken=1"), "accounts")
    assert elsewhere.asked == []


async def test_a_redirection_is_not_followed(elsewhere: Elsewhere) -> None:
    for status in (301, 302, 303, 307, 308):
        away = RedirectResponse(f"{elsewhere.url}{ROOT}/accounts", status)
        async with crm_that_answers(away) as client:
            with pytest.raises(CrmUnavailable, match="sent us elsewhere"):
                await read(client, "accounts")
        async with crm_that_answers(JSONResponse({"value": []}), token=away) as client:
            with pytest.raises(LoginRefused):
                await read(client, "accounts")
    assert elsewhere.asked == []


async def test_a_name_that_leads_to_this_machine_gets_nothing(elsewhere: Elsewhere) -> None:
    """2130706433 is 127.0.0.1 in other words; any name may have such an address."""
    port = elsewhere.url.rpartition(":")[2]
    connector = Connector(patience=QUICK)
    try:
        client = connector.open(1, setup_for(f"http://2130706433:{port}")).client
        with pytest.raises(InvalidServerUrl, match=r"leads to 127\.0\.0\.1, where no CRM is"):
            await read(client, "accounts")
    finally:
        await connector.aclose()
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    ("address", "host", "refused"),
    [
        ("127.0.0.1", "localhost", False),
        ("::1", "localhost", False),
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "crm.contoso.com", True),
        ("::1", "crm.contoso.com", True),
        ("::ffff:127.0.0.1", "crm.contoso.com", True),
        ("169.254.169.254", "crm.contoso.com", True),
        ("169.254.169.254", "169.254.169.254", True),
        ("::ffff:169.254.169.254", "crm.contoso.com", True),
        ("64:ff9b::a9fe:a9fe", "crm.contoso.com", True),
        ("64:ff9b::10.0.0.5", "crm.contoso.com", False),
        ("2002:a9fe:a9fe::1", "crm.contoso.com", True),
        ("fe80::1%eth0", "crm.contoso.com", True),
        ("fd00:ec2::254", "crm.contoso.com", True),
        ("168.63.129.16", "crm.contoso.com", True),
        ("0.0.0.0", "crm.contoso.com", True),
        ("224.0.0.1", "crm.contoso.com", True),
        ("10.0.0.5", "crm.contoso.com", False),
        ("52.97.0.1", "crm.contoso.com", False),
    ],
)
def test_which_addresses_no_crm_has(address: str, host: str, refused: bool) -> None:
    assert bool(forbidden(address, host)) is refused
