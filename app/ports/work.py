"""What every use case is given, and how a running job tells how far it came."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from app.domain.company import Company
from app.domain.job import Counts, SynchJob
from app.ports.breakers import Breakers
from app.ports.callers import ApiKeys, IdempotencyKeys, Reception, RefusedLogins
from app.ports.jobs import JobQueue, SynchJobs, SynchLog, Watches, Workers
from app.ports.memory import Companies, Connections, Couplings, Mappings, OptionMappings, WaitingRecords
from app.ports.sharing import Remembered, Together
from app.ports.sides import Clock, SideFactory


class Transaction(Protocol):
    """One short transaction; commits when its block ends, rolls back when it raises. By its `handle` a side that is
    kept in the same database takes part."""

    handle: object
    companies: Companies
    connections: Connections
    breakers: Breakers
    mappings: Mappings
    option_mappings: OptionMappings
    couplings: Couplings
    waiting: WaitingRecords
    jobs: SynchJobs
    synch_log: SynchLog
    job_queue: JobQueue
    watches: Watches
    api_keys: ApiKeys
    reception: Reception
    idempotency: IdempotencyKeys
    refused_logins: RefusedLogins
    workers: Workers


class UnitOfWork(Protocol):
    """Opens transactions. Never held while another system is waited for."""

    def __call__(self, *, reading: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """With `reading` each statement stands for itself, which saves two trips. Nothing may be written then."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What every use case is given: the memory, the two sides, the time."""

    uow: UnitOfWork
    sides: SideFactory
    clock: Clock
    new_id: Callable[[], UUID]  # time-ordered, so that rows written together lie together
    together: Together = field(default_factory=Together)
    remembered: Remembered = field(default_factory=Remembered)


class JobStopped(Exception):
    """A job is to stop here. Not an error of the integration: use cases let it pass."""


class Fenced(JobStopped):
    """Another worker has taken the job; nothing more may be written for it."""


class Cancelled(JobStopped):
    """Somebody cancelled the job."""


class Draining(JobStopped):
    """The worker is stopping, and another one continues the job; or the job waits for its connection."""


class Report(Protocol):
    """How a running job tells how far it came, and hears whether to go on."""

    async def progress(
        self, direction: str, counts: Counts, expected: int | None = None, tx: Transaction | None = None
    ) -> None:
        """Call it after every page; `counts` are all of that direction so far, `expected` the rows there
        will be to read.

        With the page's own transaction both commit or neither does: it raises Fenced, which must undo the
        page, and nothing else; ask `go_on` before the next page. Without one it asks `go_on` itself.
        """
        ...

    def go_on(self) -> None:
        """Call it before every page. Raises Cancelled, Draining or Fenced when the job is to stop here."""
        ...


class Handler(Protocol):
    """Carries out the jobs of one kind."""

    async def __call__(self, ctx: Context, company: Company, job: SynchJob, report: Report, /) -> None: ...
