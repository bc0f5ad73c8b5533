"""The bound: the same reads and writes in the same sets, and nothing else."""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import asyncpg
import httpx

from app.db.engine import connect
from tests.benchmarks.scripts import PAGE, READ, SELECT, Task, insert, new_id, sets, to_crm, update

HEADERS = {"Accept": "application/json", "OData-Version": "4.0", "OData-MaxVersion": "4.0"}
BOUNDARY = "0123456789abcdef"
Connection = asyncpg.Connection
Work = Callable[["Bare"], Coroutine[Any, Any, int]]


class Bare:
    """A script with a token, a client and a connection."""

    def __init__(self, task: Task, http: httpx.AsyncClient, database: "Connection[asyncpg.Record]") -> None:
        self.task = task
        self.http = http
        self.database = database

    async def load_from_crm(self) -> int:
        """Everything out of CRM into NAV."""
        done = 0
        link: str | None = f"accounts?$select={SELECT}"
        while link:
            page = await self._page(link, f"odata.track-changes,odata.maxpagesize={PAGE}")
            for rows in sets(page["value"]):
                await insert(self.database, self.task.company_id, rows)
            done += len(page["value"])
            link = page.get("@odata.nextLink")
        return done

    async def load_to_crm(self) -> int:
        """Everything out of NAV into CRM."""
        done, after = 0, 0
        while found := await self.database.fetch(READ, self.task.company_id, after, PAGE):
            for records in sets(found):
                await self._write([_create(new_id(), to_crm(record["fields"])) for record in records])
            done, after = done + len(found), found[-1]["row_version"]
        return done

    async def changes_from_crm(self) -> int:
        """What changed in CRM, into NAV."""
        page = await self._page(self.task.since, f"odata.maxpagesize={PAGE}")
        for rows in sets(page["value"]):
            await update(self.database, self.task.company_id, rows)
        return len(page["value"])

    async def _page(self, link: str, prefer: str) -> dict[str, Any]:
        answer = await self.http.get(link, headers={"Prefer": prefer})
        answer.raise_for_status()
        found: dict[str, Any] = json.loads(answer.content)
        return found

    async def _write(self, parts: Sequence[bytes]) -> None:
        lanes = asyncio.Semaphore(self.task.lanes)
        await asyncio.gather(*(self._batch(some, lanes) for some in sets(parts, self.task.batch)))

    async def _batch(self, parts: Sequence[bytes], lanes: asyncio.Semaphore) -> None:
        mark = f"--{BOUNDARY}\r\n".encode()
        body = b"".join(mark + part for part in parts) + f"--{BOUNDARY}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/mixed; boundary={BOUNDARY}",
            "Prefer": "odata.continue-on-error",
        }
        async with lanes:
            while True:
                answer = await self.http.post("$batch", content=body, headers=headers)
                if answer.status_code != 429:
                    break
                await asyncio.sleep(float(answer.headers["Retry-After"]))
        answer.raise_for_status()
        if answer.content.count(b"HTTP/1.1 201") != len(parts):
            raise RuntimeError("Not every row was created.")


def _create(row_id: str, columns: Mapping[str, Any]) -> bytes:
    return (
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"PATCH /api/data/v9.2/accounts({row_id})?$select={SELECT} HTTP/1.1\r\n"
        "Content-Type: application/json\r\nIf-None-Match: *\r\nPrefer: return=representation\r\n\r\n"
        f"{json.dumps(columns)}\r\n"
    ).encode()


WORK: Mapping[str, Work] = {
    "load_from_crm": Bare.load_from_crm,
    "load_to_crm": Bare.load_to_crm,
    "changes_from_crm": Bare.changes_from_crm,
}


async def run(work: str, task: Task) -> dict[str, float]:
    """Carries it out; the seconds it took once it was connected."""
    database = await connect(task.database)
    trust = ssl.create_default_context(cafile=task.certificate)
    async with httpx.AsyncClient(base_url=task.api, verify=trust, headers=HEADERS, timeout=600) as http:
        url, form = task.token_request()
        token = (await http.post(url, data=form)).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        began, cpu = time.perf_counter(), time.process_time()
        rows = await WORK[work](Bare(task, http, database))
        seconds = time.perf_counter() - began
    await database.close()
    return {"seconds": seconds, "rows": rows, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(sys.argv[1], Task.of(sys.argv[2])))))
