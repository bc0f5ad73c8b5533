"""An endpoint is called with what FastAPI would call it with, and what is wrong with a request is what FastAPI says."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field

from app.api.endpoints import ABSENT, Endpoint

pytestmark = pytest.mark.anyio
ID = "0199aaaa-0000-7000-8000-000000000000"
calls: list[str] = []


class Kind(StrEnum):
    """A kind of thing."""

    QUOTES = "quotes"


class Lines(BaseModel):
    """Some lines."""

    names: list[str] = Field(max_length=2)


ONE_LINE = Lines(names=["one"])


class Missing(Exception):
    """There is no such thing."""


async def _thing(no: str) -> str:
    calls.append("thing")
    if no == "none":
        raise Missing
    return f"thing {no}"


Thing = Annotated[str, Depends(_thing)]


async def _part(thing: Thing, part: Annotated[UUID | None, Query()] = None) -> str:
    calls.append("part")
    return f"{thing}, part {part}"


async def _page(request: Request, limit: Annotated[int, Query(ge=1, alias="$limit")] = 100) -> str:
    return f"{limit} of {request.url.path}"


async def endpoint(
    page: Annotated[str, Depends(_page)],
    thing: Thing,
    part: Annotated[str, Depends(_part)],
    kind: Kind,
    response: Response,
    body: Lines = ONE_LINE,
    wanted: Annotated[str, Query()] = "all",
    needed: Annotated[bool | None, Query()] = None,
    if_match: Annotated[str | None, Header()] = None,
) -> dict[str, Any]:
    """Says what it was called with."""
    response.headers["ETag"] = "1"
    response.status_code = 202
    return {
        "page": page,
        "thing": thing,
        "part": part,
        "kind": kind,
        "body": body.names,
        "wanted": wanted,
        "needed": needed,
        "if_match": if_match,
        "calls": sorted(calls),
    }


def app(route: type[APIRoute]) -> FastAPI:
    """The endpoint behind such a route."""
    found = FastAPI()
    found.router.route_class = route
    found.post("/{kind}/{no}", status_code=201)(endpoint)
    found.add_exception_handler(RequestValidationError, _wrong)
    found.add_exception_handler(Missing, _missing)
    return found


async def _wrong(request: Request, error: Any) -> Response:
    told = [{name: each.get(name) for name in ("type", "loc", "msg")} for each in error.errors()]
    return JSONResponse(sorted(told, key=str), 422)


async def _missing(request: Request, error: Exception) -> Response:
    return Response(status_code=404)


class Ours(APIRoute):
    """A route that finds out what its endpoint is called with as operations do."""

    def get_route_handler(self) -> Any:
        """Its handler."""
        prepared = Endpoint(self.dependant)

        async def handle(request: Request) -> Response:
            found, besides = await prepared(request, await request.json() if await request.body() else ABSENT)
            return JSONResponse(found, besides.status_code, dict(besides.headers))

        return handle


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/quotes/1", {}),
    ("/quotes/1", {"json": {"names": ["a"]}, "headers": {"If-Match": "x"}}),
    (f"/quotes/1?$limit=7&part={ID}&needed=yes&wanted=", {}),
    ("/quotes/1?limit=0&$limit=3&$limit=4", {}),
    ("/quotes/1?$limit=0", {}),
    ("/orders/1?$limit=a&part=1&needed=maybe", {"json": {"names": ["a", "b", "c"]}}),
    ("/quotes/1", {"json": {}}),
    ("/quotes/1?part=1", {"json": []}),
    ("/quotes/none?$limit=0", {"json": {}}),
]


@pytest.mark.parametrize(("address", "more"), REQUESTS)
async def test_an_endpoint_hears_what_fastapi_would_tell_it(address: str, more: dict[str, Any]) -> None:
    answers = []
    for route in (APIRoute, Ours):
        calls.clear()
        transport = httpx.ASGITransport(app(route))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post(address, **more)
        # What is wrong with a dependency is told again by whatever depends on it; once is enough.
        told = set(map(str, answer.json())) if answer.status_code == 422 else answer.content
        answers.append((answer.status_code, told, answer.headers.get("etag"), list(calls)))
    assert answers[0] == answers[1]


def test_what_no_operation_has_needed_is_refused_at_once() -> None:
    def in_a_thread() -> None:
        """It is no coroutine."""

    async def streaming() -> Any:
        yield 1

    for call in (in_a_thread, streaming):
        with pytest.raises(TypeError, match="no coroutine"):
            Endpoint(APIRoute("/", call).dependant)


def test_a_parameter_that_may_come_several_times_is_refused_at_once() -> None:
    async def by_names(names: Annotated[list[str] | None, Query()] = None) -> None:
        """Fields by name."""

    with pytest.raises(TypeError, match="several times"):
        Endpoint(APIRoute("/", by_names).dependant)
