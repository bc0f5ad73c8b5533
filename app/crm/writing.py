"""Writing sets of rows, each guarded by a condition and each alone.

A create is a PATCH of the chosen id that must not exist, an update one of a row that must exist (with its version,
if one is given). Both answer with the row as CRM stored it. So everything may be repeated after a lost answer: what
came through the first time shows as "exists" or "changed", and one look at the rows tells which it was.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.crm.bodies import Bodies
from app.crm.client import DataverseClient
from app.crm.failures import (
    OBJECT_DOES_NOT_EXIST,
    READ_AGAIN,
    RECORD_EXISTS,
    VERSION_MISMATCH,
    code_and_message,
    error_of,
    lacks_privilege,
)
from app.crm.metadata import CrmTable
from app.crm.odata import STATE, query, row_path
from app.crm.reading import by_ids
from app.crm.rows import Columns, columns_of
from app.crm.wire import Answer, Request
from app.domain.errors import (
    CrmRecordNotFound,
    CrmRefused,
    CrmUnavailable,
    IntegrationError,
    LoginRefused,
    PermissionMissing,
    StaleRecord,
)
from app.domain.records import Reference, Snapshot, Value, Values
from app.ports import Delete, Insert, Refused, Update, Write, Written

SMALLEST_BATCH = 10
LARGEST_BATCH = 1000  # parts; Dataverse takes no more
NOTHING = b"{}"
Outcome = Written | Refused


@dataclass(frozen=True, slots=True)
class _Form:
    """What all writes of the same fields have in common."""

    columns: Columns
    query: str  # what comes after the address of the row
    prefer: str

    @classmethod
    def of(cls, columns: Columns) -> "_Form":
        """The form of writes that answer with these columns."""
        return cls(
            columns, query("", {"$select": columns.answered}), columns.preferring("return=representation")
        )


@dataclass(slots=True)
class _Job:
    """A write made ready, not changed any more: what to send, and how to read the answer."""

    position: int
    write: Write
    request: Request
    columns: Columns | None = None
    later: Values | None = None  # the state, which a create cannot set

    @property
    def version(self) -> str | None:
        """The version that the row must still have."""
        return None if isinstance(self.write, Insert) else self.write.version

    @property
    def values(self) -> Values:
        """What was asked to be written."""
        return {} if isinstance(self.write, Delete) else self.write.values

    @property
    def asked(self) -> frozenset[str]:
        """The fields to be answered."""
        return frozenset() if isinstance(self.write, Delete) else self.write.fields.union(self.write.values)


async def write(
    client: DataverseClient, table: CrmTable, writes: Sequence[Write], sharers: int = 1
) -> list[Outcome]:
    """Applies every write it can; answers in their order. So many `sharers` use the lanes at the same time.

    Raises CrmUnavailable if none could be delivered, LoginRefused if our user is not let in, PermissionMissing if it
    lacks the privilege for all.
    """
    writer = _Writer(client, table, sharers)
    outcomes: dict[int, Outcome] = {}
    for round_ in _rounds(writes):
        outcomes |= await writer.carry_out(round_)
    answers = [outcomes[position] for position in range(len(writes))]
    _require_rights(answers)
    return answers


def _require_rights(answers: Sequence[Outcome]) -> None:
    """Raises LoginRefused or PermissionMissing when our user may not do this to any row of the entity: no record is
    at fault then, and none shall bear the failure."""
    errors = [each.error for each in answers if isinstance(each, Refused)]
    shut_out = [error for error in errors if isinstance(error, LoginRefused)]
    lacking = [error for error in errors if lacks_privilege(error)]
    if shut_out or (lacking and len(lacking) == len(answers)):
        raise (shut_out or lacking)[0]


def _rounds(writes: Sequence[Write]) -> list[list[tuple[int, Write]]]:
    """Writes to one row in their order, one after the other; all others at once."""
    if len({each.id for each in writes}) == len(writes):
        return [list(enumerate(writes))]
    rounds: list[list[tuple[int, Write]]] = []
    times: dict[UUID, int] = {}
    for position, each in enumerate(writes):
        turn = times[each.id] = times.get(each.id, -1) + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append((position, each))
    return rounds


class _Writer:
    def __init__(self, client: DataverseClient, table: CrmTable, sharers: int) -> None:
        self._client = client
        self._table = table
        self._sharers = sharers
        self._bodies = Bodies(table)
        self._forms: dict[frozenset[str], _Form] = {}

    async def carry_out(self, writes: Sequence[tuple[int, Write]]) -> dict[int, Outcome]:
        """The outcomes of writes to different rows, by position."""
        outcomes: dict[int, Outcome] = {}
        jobs: list[_Job] = []
        for position, each in writes:
            prepared = self._prepared(position, each)
            if isinstance(prepared, _Job):
                jobs.append(prepared)
            else:
                outcomes[position] = prepared
        outcomes |= await self._guarded_by_us(jobs)
        doubtful: list[tuple[_Job, Answer]] = []
        states: list[tuple[int, Write]] = []
        for job, told in await self._sent([job for job in jobs if job.position not in outcomes]):
            if isinstance(told, Answer):
                doubtful.append((job, told))
            else:
                outcomes[job.position] = told
                states += _state_to_set(job, told)
        outcomes |= await self._looked_up(doubtful)
        if states:
            outcomes |= _merged(outcomes, await self._states_set(states))
        return outcomes

    async def _states_set(self, states: Sequence[tuple[int, Write]]) -> dict[int, Outcome]:
        """The rows are created already, so a failure from here on is theirs alone."""
        try:
            return await self.carry_out(states)
        except CrmUnavailable as error:
            return {position: Refused(each.id, error) for position, each in states}

    async def _guarded_by_us(self, jobs: Sequence[_Job]) -> dict[int, Outcome]:
        """What a look at the rows decides: updates that change nothing on the wire, and versions that the entity
        does not guard (Dataverse: IsOptimisticConcurrencyEnabled)."""
        idle = {
            job.position: job for job in jobs if job.request.body == NOTHING and isinstance(job.write, Update)
        }
        guarded = self._table.guards_versions
        looked_at = idle if guarded else idle | {job.position: job for job in jobs if job.version}
        if not looked_at:
            return {}
        outcomes: dict[int, Outcome] = {}
        fields = sorted({name for job in looked_at.values() for name in job.asked})
        found = await self._found(fields, list(looked_at.values()))
        for position, job in looked_at.items():
            present = found.get(job.write.id)
            if present is not None and job.version not in (None, present.version):
                error = StaleRecord(f"CRM changed {self._subject(job.write)} meanwhile.", fix=READ_AGAIN)
                outcomes[position] = Refused(job.write.id, self._named(error, job.write))
            elif position in idle and present is not None:
                outcomes[position] = Written(job.write.id, present)
            elif position in idle:
                gone = CrmRecordNotFound(f"CRM does not have {self._subject(job.write)}.")
                outcomes[position] = Refused(job.write.id, self._named(gone, job.write))
        return outcomes

    # --- asking ---

    def _prepared(self, position: int, each: Write) -> _Job | Refused:
        path = row_path(self._table, each.id)
        if isinstance(each, Delete):
            guard = self._if_match(each.version) if each.version else {}
            return _Job(position, each, Request("DELETE", path, guard))
        creating, values = isinstance(each, Insert), each.values
        later = {name: values[name] for name in STATE if name in values} if creating else None
        if later:
            values = {name: value for name, value in values.items() if name not in later}
        try:
            form = self._form_of(each)
            body = self._bodies.of(values, creating=creating)
        except IntegrationError as error:
            return Refused(each.id, self._named(error, each))
        headers = {"If-None-Match": "*"} if isinstance(each, Insert) else self._if_match(each.version or "*")
        headers["Prefer"] = form.prefer
        request = Request("PATCH", path + form.query, headers, body)
        return _Job(position, each, request, form.columns, later or None)

    def _if_match(self, version: str) -> dict[str, str]:
        return {"If-Match": version if self._table.guards_versions else "*"}

    def _form_of(self, each: Insert | Update) -> _Form:
        """Rows of one set mostly have the same fields, and write some of them."""
        names = each.fields if each.fields.issuperset(each.values) else each.fields.union(each.values)
        if names not in self._forms:
            self._forms[names] = _Form.of(columns_of(self._table, sorted(names)))
        return self._forms[names]

    async def _sent(self, jobs: Sequence[_Job]) -> list[tuple[_Job, Outcome | Answer]]:
        """What came of each job, or its answer where only a look at the row can tell: one alone is sent as a plain
        request, more of them in batches side by side."""
        if not jobs:
            return []
        if len(jobs) == 1:
            [job] = jobs
            answer = await self._client.ask(job.request, self._subject(job.write))
            return [(job, self._outcome(job, answer) or answer)]
        lanes = max(1, self._client.lanes.open // self._sharers)
        size = min(max(-(-len(jobs) // lanes), SMALLEST_BATCH), LARGEST_BATCH)
        batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
        answered = await asyncio.gather(*(self._batch(batch) for batch in batches))
        failures = [answers for answers in answered if isinstance(answers, IntegrationError)]
        # Whether our user is let in has nothing to do with the records; those of other batches may be written again.
        shut_out = [error for error in failures if isinstance(error, LoginRefused | PermissionMissing)]
        if shut_out or len(failures) == len(batches):
            raise (shut_out or failures)[0]
        sent: list[tuple[_Job, Outcome | Answer]] = []
        for batch, told in zip(batches, answered, strict=True):
            if isinstance(told, IntegrationError):
                sent += [(job, Refused(job.write.id, told)) for job in batch]
            else:
                sent += zip(batch, told, strict=True)
        return sent

    async def _batch(self, jobs: Sequence[_Job]) -> list[Outcome | Answer] | IntegrationError:
        """What came of the jobs, understood while other batches are still under way; or why there are no answers:
        another batch of the same set may have come through."""
        try:
            answers = await self._client.batch([job.request for job in jobs], self._table.entity_set)
        except IntegrationError as error:
            return error
        return [self._outcome(job, answer) or answer for job, answer in zip(jobs, answers, strict=True)]

    # --- understanding ---

    def _outcome(self, job: _Job, answer: Answer) -> Outcome | None:
        """What an answer means; None if only a look at the row can tell."""
        each = job.write
        if answer.ok:
            return Written(each.id, self._stored(job, answer), created=isinstance(each, Insert))
        code, _ = code_and_message(answer)
        if isinstance(each, Delete) and answer.status == 404 and code == OBJECT_DOES_NOT_EXIST:
            return Written(each.id, None)
        if isinstance(each, Insert) and code == RECORD_EXISTS:
            return None
        if answer.repeated and code == VERSION_MISMATCH and isinstance(each, Update):
            return None
        if code == OBJECT_DOES_NOT_EXIST and _refers(job):
            return None  # either the row is gone, or one that it refers to
        return Refused(each.id, self._named(error_of(answer, self._subject(each)), each))

    def _stored(self, job: _Job, answer: Answer) -> Snapshot | None:
        """The row as CRM stored it; without a body, what was sent, and no version."""
        if job.columns is None:
            return None
        if answer.body:
            return job.columns.snapshot(answer.json(), job.write.id)
        return Snapshot(job.write.id, str(job.write.id), answer.headers.get("etag", ""), dict(job.values))

    async def _looked_up(self, doubtful: Sequence[tuple[_Job, Answer]]) -> dict[int, Outcome]:
        """One look at the rows that exist already, or have another version than they should have."""
        if not doubtful:
            return {}
        fields = sorted({name for job, _ in doubtful for name in job.asked})
        try:
            found = await self._found(fields, [job for job, _ in doubtful])
        except CrmUnavailable as error:
            return {job.position: Refused(job.write.id, error) for job, _ in doubtful}
        return {job.position: self._judged(job, answer, found.get(job.write.id)) for job, answer in doubtful}

    async def _found(self, fields: Sequence[str], jobs: Sequence[_Job]) -> dict[UUID, Snapshot]:
        return await by_ids(self._client, columns_of(self._table, fields), [job.write.id for job in jobs])

    def _judged(self, job: _Job, answer: Answer, present: Snapshot | None) -> Outcome:
        each = job.write
        ours = present is not None and answer.repeated and _holds(present.values, job.values)
        if present is not None and (ours or isinstance(each, Insert)):
            return Written(each.id, present, created=ours and isinstance(each, Insert))
        code, message = code_and_message(answer)
        if code == OBJECT_DOES_NOT_EXIST and (present is not None or isinstance(each, Insert)):
            error: IntegrationError = CrmRefused(
                f"CRM refused {self._subject(each)}, which refers to a row that is gone: {message} ({code})",
                fix="Synchronize the mapping of the row that is gone: what follows from its deletion is told there.",
                extra={"crm_code": code, "crm_message": message, "crm_status": answer.status},
            )
            return Refused(each.id, self._named(error, each))
        return Refused(each.id, self._named(error_of(answer, self._subject(each)), each))

    def _subject(self, each: Write) -> str:
        return f"{self._table.name} {each.id}"

    def _named(self, error: IntegrationError, each: Write) -> IntegrationError:
        error.extra.update(crm_entity=self._table.name, crm_id=str(each.id))
        return error


def _refers(job: _Job) -> bool:
    """Whether the row that is written refers to other rows."""
    return any(isinstance(value, Reference | UUID) for value in job.values.values())


def _state_to_set(job: _Job, outcome: Outcome) -> list[tuple[int, Write]]:
    """The second step of a create whose state is not the one that CRM gives to new rows."""
    if not job.later or not isinstance(outcome, Written) or not outcome.created or outcome.snapshot is None:
        return []
    if _holds(outcome.snapshot.values, job.later):
        return []
    return [(job.position, Update(job.write.id, job.later, outcome.snapshot.version or None, job.asked))]


def _merged(first: dict[int, Outcome], second: dict[int, Outcome]) -> dict[int, Outcome]:
    """Creates with the state that they were given afterwards."""
    merged: dict[int, Outcome] = {}
    for position, outcome in second.items():
        before = first[position]
        if (
            isinstance(outcome, Written)
            and outcome.snapshot
            and isinstance(before, Written)
            and before.snapshot
        ):
            values = {**before.snapshot.values, **outcome.snapshot.values}
            later = outcome.snapshot
            snapshot = Snapshot(later.id, later.key, later.version, values, later.modified_at)
            merged[position] = Written(outcome.id, snapshot, created=before.created)
        else:
            merged[position] = outcome
    return merged


def _holds(present: Values, wanted: Values) -> bool:
    """Whether a row has these values, as far as the wire can tell them apart."""
    return all(_alike(present.get(name), value) for name, value in wanted.items())


def _alike(present: Value, wanted: Value) -> bool:
    if wanted == "":
        return present is None
    if isinstance(present, Reference) and isinstance(wanted, UUID):
        return present.id == wanted
    return present == wanted
