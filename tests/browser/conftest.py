"""The service, a CRM and a NAV web client on this machine, and a browser to walk between them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.api.conftest import (
    admin,
    anyone,
    app,
    beginning,
    connected,
    crm,
    cronus,
    for_a_server,
    one_app,
    one_crm,
    ready,
    set_up,
    settings,
)
from tests.browser.browsers import Browser, a_browser
from tests.crm_sandbox import served

__all__ = [
    "admin",
    "anyone",
    "app",
    "beginning",
    "connected",
    "crm",
    "cronus",
    "one_app",
    "one_crm",
    "ready",
    "set_up",
    "settings",
]

LANDED = """<!doctype html><meta name="viewport" content="width=device-width"><title>NAV</title>
<style>p { overflow-wrap: anywhere }</style><body><p>Card in the NAV web client</p></body>"""


@dataclass(frozen=True, slots=True)
class Walk:
    """Where things are, and who goes there."""

    service: str
    nav: str
    browser: Browser
    admin: httpx.AsyncClient


@pytest.fixture
async def walk(ready: httpx.AsyncClient, app: FastAPI) -> AsyncIterator[Walk]:
    """Everything up, and the company's NAV client at its address on this machine."""

    async def card(request: Request) -> HTMLResponse:
        return HTMLResponse(LANDED)

    nav = Starlette(routes=[Route("/{path:path}", card)])
    async with served(nav) as nav_url, served(for_a_server(app)) as url, a_browser() as browser:
        await ready.patch(
            "/api/v1/companies/cronus",
            json={"nav_web_client_url": f"{nav_url}/DynamicsNAV110", "display_name": "CRONUS & Söhne <Ltd.>"},
        )
        yield Walk(url, nav_url, browser, ready)
