"""A script that keeps nothing, on Microsoft's client for Dataverse: it can neither go on where it was killed nor be run
twice. What else an engineer would have to keep is in `microsoft`."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
from PowerPlatform.Dataverse.client import DataverseClient

from app.db.engine import connect
from tests.benchmarks.microsoft_crm import Credential, knock
from tests.benchmarks.scripts import (
    PAGE,
    PAIRS,
    READ,
    READ_TOO,
    SET,
    Task,
    insert,
    sets,
    to_crm,
    update,
)

COLUMNS = [*PAIRS.values(), *READ_TOO]
Loop = asyncio.AbstractEventLoop


class Script:
    """One table of CRM and one of NAV; the client is synchronous, so the database is waited for."""

    def __init__(
        self,
        task: Task,
        client: DataverseClient,
        loop: Loop,
        database: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        self.task = task
        self.client = client
        self.loop = loop
        self.database = database

    def load_from_crm(self) -> int:
        """Everything out of CRM into NAV."""
        return self._into_nav(None, insert)

    def changes_from_crm(self) -> int:
        """What was modified in CRM since then, into NAV."""
        return self._into_nav(f"modifiedon ge {self.task.since}", update)

    def load_to_crm(self) -> int:
        """Everything out of NAV into CRM."""
        done = 0
        for records in self._from_nav():
            self.client.records.create("account", [to_crm(record["fields"]) for record in records])
            done += len(records)
        return done

    def changes_to_crm(self) -> int:
        """What changed in NAV, into CRM."""
        done = 0
        for records in self._from_nav():
            ids = [str(record["integration_id"]) for record in records]
            self.client.records.update("account", ids, [to_crm(record["fields"]) for record in records])
            done += len(records)
        return done

    def _into_nav(self, condition: str | None, write: Callable[..., Any]) -> int:
        done = 0
        found = self.client.records.list_pages("account", select=COLUMNS, filter=condition, page_size=PAGE)
        for page in found:
            rows = [dict(record) for record in page]
            for some in sets(rows, SET):
                self.loop.run_until_complete(write(self.database, self.task.company_id, some))
            done += len(rows)
        return done

    def _from_nav(self) -> Any:
        after = self.task.version
        while True:
            read = self.database.fetch(READ, self.task.company_id, after, SET)
            found = self.loop.run_until_complete(read)
            if not found:
                return
            yield found
            after = found[-1]["row_version"]


WORK: Mapping[str, Callable[[Script], int]] = {
    "load_from_crm": Script.load_from_crm,
    "load_to_crm": Script.load_to_crm,
    "changes_from_crm": Script.changes_from_crm,
    "changes_to_crm": Script.changes_to_crm,
}


def run(work: str, task: Task) -> dict[str, float]:
    """Carries it out; the seconds it took once it was connected."""
    os.environ["REQUESTS_CA_BUNDLE"] = task.certificate
    loop = asyncio.new_event_loop()
    database = loop.run_until_complete(connect(task.database))
    credential = Credential(task)
    with DataverseClient(task.crm_url, credential) as client:
        knock(client)
        began, cpu = time.perf_counter(), time.process_time()
        rows = WORK[work](Script(task, client, loop, database))
        seconds = time.perf_counter() - began
    loop.run_until_complete(database.close())
    loop.close()
    return {"seconds": seconds, "rows": rows, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Task.of(sys.argv[2]))))
