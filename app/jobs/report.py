"""What a running job says, and what it is told."""

from app.domain.job import Counts, Standing, SynchJob
from app.ports import Cancelled, Draining, Fenced, Transaction, UnitOfWork


class JobReport:
    """The report of one running job: see `ports.Report`.

    Whatever is learned about the job's standing, from its own progress or from the worker's heartbeat, is
    kept for the next time the job asks whether to go on.
    """

    def __init__(self, uow: UnitOfWork, job: SynchJob) -> None:
        self.job = job
        self._uow = uow
        self._standing = Standing.TO_STOP if job.cancel_requested else Standing.OURS
        self._draining = False

    async def progress(
        self, direction: str, counts: Counts, expected: int | None = None, tx: Transaction | None = None
    ) -> None:
        """Records how far the job came; see `ports.Report.progress`."""
        if tx is not None:
            self.note(await tx.jobs.progress(self.job, direction, counts, expected))
            self._require_ours()
            return
        async with self._uow() as own:
            self.note(await own.jobs.progress(self.job, direction, counts, expected))
        self.go_on()

    def go_on(self) -> None:
        """Raises Fenced, Cancelled or Draining when the job is to stop here."""
        self._require_ours()
        if self._standing is Standing.TO_STOP:
            raise Cancelled(f"Synch job {self.job.id} was cancelled.")
        if self._standing is Standing.TO_WAIT:
            raise Draining(f"The connection was disabled or deleted during synch job {self.job.id}.")
        if self._draining:
            raise Draining(f"The worker of synch job {self.job.id} is stopping.")

    def note(self, standing: Standing) -> None:
        """Takes in how the job stands; what was lost stays lost."""
        if self._standing is not Standing.LOST:
            self._standing = standing

    def drain(self) -> None:
        """Lets the job stop after the page in flight, to be continued by another worker."""
        self._draining = True

    def _require_ours(self) -> None:
        if self._standing is Standing.LOST:
            raise Fenced(f"Synch job {self.job.id} is run by another worker now.")
