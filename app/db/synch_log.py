"""What became of every record: outcomes, errors, and the history of what was written."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.arrays import json_text
from app.db.coupling_rows import decode_failure, encode_failure, plain, plain_id
from app.db.job_rows import REFERRED_TO
from app.db.tables import synch_job, synch_outcome
from app.db.values import clean, decode, encode
from app.domain.coupling import NO_CHANGES, Changes, Outcome, SynchAction
from app.domain.records import Side
from app.ports import FailureSummary, LoggedOutcome

# More than a record has fields: the position of a change is its outcome's times this, plus its own.
_CHANGES = 1000
_AS_IS = ("direction", "nav_table", "nav_key", "nav_id", "crm_entity", "crm_id", "coupling_id", "reason")


class SqlSynchLog:
    """The log of all companies; the newest has the highest position."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, company_id: int, job_id: UUID | None, outcomes: Sequence[Outcome], at: datetime
    ) -> None:
        """Records outcomes, their errors and the history of what was written, in one set.

        The mapping is the one in an outcome's `extra`, or the job's.
        """
        if not outcomes:
            return
        mapping = await self._mapping_of(job_id, outcomes)
        rows = json_text([_row(one, mapping) for one in outcomes])
        await self._connection.execute(
            _ADD, {"company_id": company_id, "job_id": job_id, "at": at, "rows": rows}
        )

    async def outcomes(
        self, company_id: int, job_id: UUID, result: str | None, after: int, limit: int
    ) -> list[LoggedOutcome]:
        """The outcomes of a job and of its children in the order they were recorded, from the one after
        position `after` on; `result` is an action."""
        query = _of(company_id).where(_in_job(job_id), synch_outcome.c.id > after)
        if result is not None:
            query = query.where(synch_outcome.c.action == result)
        return await self._read(query.order_by(synch_outcome.c.id).limit(limit))

    async def errors(
        self,
        company_id: int,
        *,
        job_id: UUID | None = None,
        mapping: str | None = None,
        code: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[LoggedOutcome]:
        """The newest first; `position` continues."""
        query = _of(company_id).where(synch_outcome.c.error_code.is_not(None))
        if job_id is not None:
            query = query.where(_in_job(job_id))
        if mapping is not None:
            query = query.where(synch_outcome.c.mapping == mapping)
        if code is not None:
            query = query.where(synch_outcome.c.error_code == code)
        if after is not None:
            query = query.where(synch_outcome.c.id < after)
        return await self._read(query.order_by(synch_outcome.c.id.desc()).limit(limit))

    async def failures(self, company_id: int) -> list[FailureSummary]:
        """By code, those that happened last first."""
        of_code = (
            select(func.count().label("count"), func.max(synch_outcome.c.id).label("last"))
            .where(synch_outcome.c.company_id == company_id, synch_outcome.c.error_code.is_not(None))
            .group_by(synch_outcome.c.error_code)
            .subquery()
        )
        query = (
            select(synch_outcome, of_code.c.count.label("failures"))
            .join(of_code, of_code.c.last == synch_outcome.c.id)
            .order_by(synch_outcome.c.id.desc())
        )
        rows = await self._connection.execute(query)
        return [FailureSummary(row.failures, _logged(row)) for row in rows]

    async def history(
        self, company_id: int, coupling_id: UUID, after: int | None, limit: int
    ) -> list[Mapping[str, Any]]:
        """Every write of one coupling: `at`, `job_id`, `action`, `direction`, `side`, `field`, `old`, `new` and
        `position`, which continues. The newest first; the fields of one write in their order."""
        query = _of(company_id).where(
            synch_outcome.c.coupling_id == coupling_id, synch_outcome.c.changes.is_not(None)
        )
        if after is not None:
            query = query.where(synch_outcome.c.id <= after // _CHANGES)
        # One row more: of the row that the page before ended in, there may be nothing left.
        found = await self._read(query.order_by(synch_outcome.c.id.desc()).limit(limit + 1))
        writes = [write for logged in found for write in _writes(logged)]
        return [write for write in writes if after is None or write["position"] < after][:limit]

    async def forget(self, before: datetime, limit: int, *, history: bool) -> int:
        """Deletes up to so many rows from before then, whose job goes too or is gone; how many. With `history`
        those that say what was written to a record, without it the others."""
        given = {"before": before, "limit": limit}
        return (await self._connection.execute(_FORGET[history], given)).rowcount

    async def _mapping_of(self, job_id: UUID | None, outcomes: Sequence[Outcome]) -> str | None:
        """The job's mapping, for outcomes that do not say theirs."""
        if job_id is None or all("mapping" in one.extra for one in outcomes):
            return None
        query = select(synch_job.c.mapping).where(synch_job.c.id == job_id)
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def _read(self, query: Select[Any]) -> list[LoggedOutcome]:
        return [_logged(row) for row in await self._connection.execute(query)]


_COLUMNS = {
    "mapping": "text", "coupling_id": "uuid", "nav_table": "text", "nav_key": "text", "nav_id": "uuid",
    "crm_entity": "text", "crm_id": "uuid", "direction": "text", "action": "text", "reason": "text",
    "message": "text", "error_code": "text", "error": "json", "extra": "json", "changes": "json",
}  # fmt: skip
_ADD = text(f"""
    INSERT INTO synch_outcome (company_id, job_id, at, {", ".join(_COLUMNS)})
    SELECT :company_id, CAST(:job_id AS uuid), CAST(:at AS timestamptz), {", ".join(_COLUMNS)}
    FROM json_to_recordset(CAST(:rows AS json))
      AS given({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())})
    """)  # noqa: S608 - names of our columns, no input
_FORGET = {
    history: text(f"""
        DELETE FROM synch_outcome WHERE id IN (
            SELECT id FROM synch_outcome AS logged
            WHERE logged.at < :before AND logged.changes IS {"NOT NULL" if history else "NULL"}
              AND NOT EXISTS (
                  SELECT FROM synch_job AS job WHERE job.id = logged.job_id
                  AND (job.finished_at IS NULL OR job.finished_at >= :before
                       OR coalesce(job.parent_id, job.id) IN ({REFERRED_TO})))
            ORDER BY logged.at LIMIT :limit FOR UPDATE SKIP LOCKED)
        """)  # noqa: S608 - all parts are ours
    for history in (False, True)
}


def _of(company_id: int) -> Select[Any]:
    return select(synch_outcome).where(synch_outcome.c.company_id == company_id)


def _in_job(job_id: UUID) -> ColumnElement[bool]:
    """It came about in the job, or in one of its children."""
    children = select(synch_job.c.id).where(synch_job.c.parent_id == job_id)
    return or_(synch_outcome.c.job_id == job_id, synch_outcome.c.job_id.in_(children))


def _row(one: Outcome, mapping: str | None) -> dict[str, Any]:
    return {
        "direction": plain(one.direction),
        "nav_table": one.nav_table,
        "nav_key": one.nav_key,
        "nav_id": plain_id(one.nav_id),
        "crm_entity": one.crm_entity,
        "crm_id": plain_id(one.crm_id),
        "coupling_id": plain_id(one.coupling_id),
        "reason": one.reason,
        "mapping": one.extra.get("mapping", mapping),
        "action": str(one.action),
        "message": clean(one.message),
        "error_code": None if one.error is None else one.error.code,
        "error": encode_failure(one.error),
        "extra": dict(one.extra) or None,
        "changes": _encoded(one.changes) if one.changes.new else None,
    }


def _encoded(changes: Changes) -> dict[str, Any]:
    old = {name: value for name in changes.new if (value := changes.old.get(name)) is not None}
    return {"side": str(changes.side), "old": encode(old), "new": encode(changes.new)}


def _decoded(stored: Mapping[str, Any]) -> Changes:
    return Changes(Side(stored["side"]), decode(stored["new"]), decode(stored["old"]))


def _logged(row: Row[Any]) -> LoggedOutcome:
    outcome = Outcome(
        action=SynchAction(row.action),
        message=row.message,
        error=decode_failure(row.error),
        changes=NO_CHANGES if row.changes is None else _decoded(row.changes),
        extra=row.extra or {},
        **{name: getattr(row, name) for name in _AS_IS},
    )
    return LoggedOutcome(outcome, row.job_id, row.at, row.id, row.mapping)


def _writes(logged: LoggedOutcome) -> list[Mapping[str, Any]]:
    """One for each field, the first field with the highest position."""
    count = len(logged.outcome.changes)
    return [
        {
            "position": logged.position * _CHANGES + count - 1 - number,
            "at": logged.at,
            "job_id": logged.job_id,
            "action": logged.outcome.action,
            "direction": logged.outcome.direction,
            "side": change.side,
            "field": change.field,
            "old": change.old,
            "new": change.new,
        }
        for number, change in enumerate(logged.outcome.changes)
    ]
