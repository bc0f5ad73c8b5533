"""Asking for the synchronization of many records: a selection, a mapping, all mappings in order. Each answers
with a synch job, which a worker carries out (`use_cases.run`)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.defaults import full_synch_order
from app.domain.eligibility import one_way
from app.domain.errors import DirectionNotAllowed, FieldProblem, Invalid, MappingNotFound
from app.domain.job import JobKind, SynchJob, SynchMode
from app.domain.mapping import Direction, TableMapping
from app.ports import Context, Transaction
from app.use_cases.setting import choose

MAXIMUM_ATTEMPTS = 5
"""How often a synch job that somebody asked for is tried; a recurring one goes by its job queue entry."""


async def start(
    ctx: Context,
    company: Company,
    mapping: str,
    *,
    mode: SynchMode,
    direction: Direction | None = None,
    create_uncoupled: bool | None = None,
    allow_deletions: bool = False,
    leave_alone: Collection[UUID] = (),
) -> SynchJob:
    """Synchronizes a mapping: what changed, or everything. A job of the same kind that still waits is the answer.
    Uncoupled records with an id in `leave_alone` get no partner.

    Raises ConnectionDisabled, MappingNotFound, DirectionNotAllowed.
    """
    request = _request(
        create_uncoupled=create_uncoupled,
        allow_deletions=allow_deletions or None,
        leave_alone=sorted(map(str, leave_alone)) or None,
    )
    async with ctx.uow() as tx:
        chosen = await _mapping(tx, company, mapping)
        require_direction(chosen, direction)
        waiting = await tx.jobs.waiting(company.id, mapping, mode, direction, JobKind.SYNCHRONIZE)
        if waiting is not None and dict(waiting.request) == request:
            return waiting
        job = _job(ctx, mapping, mode, direction, request)
        await tx.jobs.add(company.id, [job])
        return job


async def start_all(
    ctx: Context,
    company: Company,
    *,
    mode: SynchMode,
    mappings: Sequence[str] | None = None,
    create_uncoupled: bool | None = None,
) -> SynchJob:
    """Synchronizes these mappings, or all record mappings, in dependency order: one parent job with a child each.

    A child waits for the children of the mappings that its own depends on. The mappings' own flag that keeps
    uncoupled records out is not touched (nav-behaviour 12.1).
    """
    async with ctx.uow() as tx:
        ordered = await in_order(tx, company, mappings)
        parent = _job(ctx, None, mode, None, {})
        jobs: dict[str, SynchJob] = {}
        for mapping in ordered:
            waits_for = [str(jobs[name].id) for name in mapping.depends_on if name in jobs]
            request = _request(create_uncoupled=create_uncoupled, depends_on=waits_for or None)
            jobs[mapping.name] = _job(ctx, mapping.name, mode, None, request, parent.id)
        await tx.jobs.add(company.id, [parent, *jobs.values()])
    return parent


async def start_selection(
    ctx: Context,
    company: Company,
    table: str,
    keys: Sequence[str],
    direction: str | None,
    mapping: str | None = None,
) -> SynchJob:
    """Synchronizes these NAV records in one direction; their outcomes are those of the job.

    Raises DirectionRequired, DirectionNotAllowed, Invalid for an empty selection.
    """
    async with ctx.uow() as tx:
        chosen, run = await for_selection(tx, company, table, keys, direction, mapping)
        request = _request(keys=list(dict.fromkeys(keys)))
        job = _job(ctx, chosen.name, SynchMode.SELECTION, run, request)
        await tx.jobs.add(company.id, [job])
    return job


async def start_uncouple(ctx: Context, company: Company, mapping: str) -> SynchJob:
    """Removes all couplings of a mapping; the records stay."""
    async with ctx.uow() as tx:
        await _mapping(tx, company, mapping)
        waiting = await tx.jobs.waiting(company.id, mapping, SynchMode.UNCOUPLE, None, JobKind.SYNCHRONIZE)
        if waiting is not None:
            return waiting
        job = _job(ctx, mapping, SynchMode.UNCOUPLE, None, {})
        await tx.jobs.add(company.id, [job])
    return job


async def in_order(tx: Transaction, company: Company, names: Sequence[str] | None) -> Sequence[TableMapping]:
    """These mappings, or all record mappings, each after those it depends on.

    Raises ConnectionDisabled, MappingNotFound.
    """
    require_enabled(await tx.connections.find(company.id))
    stored = [s.mapping for s in await tx.mappings.all(company.id) if s.mapping.option_attribute is None]
    return full_synch_order(_chosen(stored, names))


async def for_selection(
    tx: Transaction,
    company: Company,
    table: str,
    keys: Sequence[str],
    direction: str | None,
    mapping: str | None,
) -> tuple[TableMapping, Direction]:
    """The mapping and the direction in which these NAV records are synchronized. Raises as `start_selection`."""
    if not keys:
        raise Invalid("The selection is empty.", errors=[FieldProblem("/nos", "Name at least one record.")])
    require_enabled(await tx.connections.find(company.id))
    chosen, _ = await choose(tx, company, name=mapping, nav_table=table, crm_entity=None)
    return chosen.mapping, one_way(chosen.mapping, Direction(direction) if direction else None)


async def _mapping(tx: Transaction, company: Company, name: str) -> TableMapping:
    require_enabled(await tx.connections.find(company.id))
    return (await tx.mappings.get(company.id, name)).mapping


def require_direction(mapping: TableMapping, direction: Direction | None) -> None:
    """Raises DirectionNotAllowed for a run that the mapping does not have."""
    if direction in (None, Direction.BIDIRECTIONAL) or mapping.direction.allows(direction):
        return
    raise DirectionNotAllowed(
        f"Mapping {mapping.name} only goes {mapping.direction.value}.",
        fix=f"Leave direction out, or use {mapping.direction.value}.",
        errors=[FieldProblem("/direction", f"Only {mapping.direction.value} is possible.")],
    )


def _chosen(stored: Sequence[TableMapping], names: Sequence[str] | None) -> list[TableMapping]:
    if names is None:
        return list(stored)
    known = {mapping.name: mapping for mapping in stored}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MappingNotFound(
            f"There is no integration table mapping {', '.join(unknown)} to synchronize.",
            fix="GET …/integration-table-mappings lists them.",
        )
    return [known[name] for name in dict.fromkeys(names)]


def _request(**asked: Any) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _job(
    ctx: Context,
    mapping: str | None,
    mode: SynchMode,
    direction: Direction | None,
    request: Mapping[str, Any],
    parent_id: UUID | None = None,
) -> SynchJob:
    return SynchJob(
        id=ctx.new_id(),
        kind=JobKind.SYNCHRONIZE,
        mapping=mapping,
        mode=mode,
        direction=direction,
        request=request,
        parent_id=parent_id,
        maximum_attempts=MAXIMUM_ATTEMPTS,
        created_at=ctx.clock.now(),
    )
