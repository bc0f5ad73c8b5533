"""The sandbox as a process of its own, with the means to fill it, to slow it down and to read its meter."""

import argparse
import datetime as dt
import hashlib
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.sandbox import Limits, Organization, create_sandbox, rows
from app.sandbox.addresses import Context
from app.sandbox.organization import Requested
from app.sandbox.server import server

API = "/api/data/v9.2"
CHANGED = ("name", "telephone1")


@dataclass
class Meter:
    """Requests to the Web API since the meter was last read, and when some were refused for being too many."""

    requests: int = 0
    sent: int = 0
    received: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    refused: list[float] = field(default_factory=list)

    def note(self, one: Requested) -> None:
        """Counts a request."""
        if not one.path.startswith(API):
            return
        self.requests += 1
        self.sent += one.sent
        self.received += one.received
        self.statuses[one.status] += 1
        if one.status == 429:
            self.refused.append(time.monotonic())


class Metered(Organization):
    """An organization that keeps a meter."""

    meter: Meter

    def record(self, requested: Requested) -> None:
        """Notes a request."""
        super().record(requested)
        self.meter.note(requested)


class Crm:
    """The process: a sandbox, and addresses under /bench."""

    def __init__(self) -> None:
        self.age = dt.timedelta()
        self.app: Starlette = create_sandbox(clock=self.now, token_lifetime=10_000_000)
        self.organization: Organization = self.app.state.organization
        self.organization.__class__ = Metered
        self.meter = self.organization.meter = Meter()
        self.made = 0
        self.app.router.routes[:0] = [
            Route("/bench/fill", self.fill, methods=["POST"]),
            Route("/bench/change", self.change, methods=["POST"]),
            Route("/bench/pace", self.pace, methods=["PUT"]),
            Route("/bench/meter", self.read, methods=["POST"]),
            Route("/bench/accounts", self.accounts, methods=["GET"]),
            Route("/bench/names", self.names, methods=["GET"]),
        ]

    def now(self) -> dt.datetime:
        """The time in CRM: rows that the benchmark fills in are a day old."""
        return dt.datetime.now(dt.UTC) - self.age

    async def fill(self, request: Request) -> JSONResponse:
        """`{"count": n, "first": number}`: so many accounts that were made yesterday; the version of the first. Numbers
        go on from the last ones unless `first` is given."""
        asked = await request.json()
        first = int(asked.get("first", self.made))
        version = self.organization.storage.version + 1
        table = self.organization.metadata.tables["account"]
        self.age = dt.timedelta(days=1)
        try:
            for number in range(first, first + int(asked["count"])):
                rows.create(self._person(), table, account(number))
        finally:
            self.age = dt.timedelta()
        self.made = max(self.made, first + int(asked["count"]))
        return JSONResponse({"accounts": len(self.organization.rows("account")), "version": version})

    async def change(self, request: Request) -> JSONResponse:
        """`{"count": n, "name": text}`: one column of the first so many accounts changes."""
        asked = await request.json()
        table = self.organization.metadata.tables["account"]
        ids = list(self.organization.rows("account"))[: int(asked["count"])]
        for row_id in ids:
            rows.update(self._person(), table, row_id, {"telephone1": f"{asked['name']} {row_id[:8]}"})
        return JSONResponse({"ids": ids})

    async def pace(self, request: Request) -> JSONResponse:
        """`{"latency": s, "row_latency": s, "limits": {...} or null}`."""
        asked = await request.json()
        self.organization.settings.latency = asked.get("latency", 0)
        self.organization.settings.row_latency = asked.get("row_latency", 0)
        limits = asked.get("limits")
        self.organization.limits = Limits(**limits) if limits else None
        return JSONResponse({})

    async def read(self, request: Request) -> JSONResponse:
        """What the meter says; it starts anew. `{"window": s}` is the length of a window of refusals."""
        window = float((await request.json()).get("window", 5))
        meter, refused = self.meter, self.meter.refused
        worst = max(
            (sum(1 for at in refused if start <= at < start + window) for start in refused), default=0
        )
        answer = {
            "requests": meter.requests,
            "sent": meter.sent,
            "received": meter.received,
            "statuses": dict(meter.statuses),
            "refused_in_a_window": worst,
        }
        self.meter = self.organization.meter = Meter()  # type: ignore[attr-defined]  # what Metered adds
        return JSONResponse(answer)

    async def accounts(self, request: Request) -> JSONResponse:
        """How many accounts there are, and how many different ones by name."""
        found = self.organization.rows("account").values()
        return JSONResponse({"rows": len(found), "names": len({row.get("name") for row in found})})

    async def names(self, request: Request) -> JSONResponse:
        """The names of the first few accounts."""
        found = islice(self.organization.rows("account").values(), 100)
        return JSONResponse({"names": [row.get("name") for row in found]})

    def _person(self) -> Context:
        return Context(self.organization, f"http://crm{API}", self.organization.user)


def account(number: int) -> dict[str, Any]:
    """An account with eleven columns of its own, and the id that belongs to its number."""
    return {
        "accountid": str(UUID(hashlib.md5(f"account{number}".encode(), usedforsecurity=False).hexdigest())),
        "name": f"Account {number:07}",
        "customertypecode": 3,
        "address1_line1": f"{number} High Street",
        "address1_line2": "Floor 2",
        "address1_city": "London",
        "address1_postalcode": "W1 3AL",
        "address1_stateorprovince": "Greater London",
        "telephone1": f"020 7946 {number % 10000:04}",
        "fax": "020 7946 0001",
        "emailaddress1": f"a{number}@adatum.example",
        "websiteurl": "http://adatum.example",
    }


def main() -> None:
    """What runs in the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server(Crm().app, "127.0.0.1", given.port, given.certificate, given.key).run()


if __name__ == "__main__":
    main()
