"""Idempotency-Key: the same request twice is carried out once, and answered twice with the same."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from fastapi import Request
from starlette.responses import Response

from app.domain.access import Caller
from app.domain.errors import DatabaseUnavailable, FieldProblem, IntegrationError, Invalid
from app.ports import Context, StoredAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""The header of an answer that is given again."""
MAXIMUM_LENGTH = 255
KEPT_HEADERS = ("content-type", "location", "etag")
NOT_KEPT = frozenset({401, 403, 408, 413, 429})
"""Answers that say nothing about the operation itself; the next attempt may fare better."""

RENEWED_EVERY = 5.0
"""Seconds between two signs of life of a request at work; see `ports.IdempotencyKeys.claim`."""

log = structlog.get_logger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


async def once(ctx: Context, caller: Caller, request: Request, handle: Handler) -> Response:
    """Carries the request out unless its key was used before; then gives the first answer again.

    Faults of ours or of another system (5xx) and answers that ask to come back (Retry-After) are not kept: they
    free the key for the next attempt. Not so where it is open what was written: our database broke off, the request
    was cancelled as the service stopped, or the answer could not be kept. Then a key under which something was
    written stays taken.

    Raises IdempotencyKeyReused (same key, other request), Busy (the first one is still at work), AnswerLost (it was
    interrupted after it had written something) and Invalid.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await handle(request)
    if not 0 < len(key) <= MAXIMUM_LENGTH:
        message = f"The key must have 1 to {MAXIMUM_LENGTH} characters."
        raise Invalid(message, errors=[FieldProblem(HEADER, message)])
    async with ctx.uow() as tx:
        first = await tx.idempotency.claim(caller.id, key, await fingerprint(request), ctx.clock.now())
    if first is not None:
        return Response(first.body, first.status, headers=dict(first.headers) | {REPLAYED: "true"})
    answer: Response | None = None
    kept = False
    try:
        async with _alive(ctx, caller.id, key):
            answer = await handle(request)
        if _to_keep(answer):
            headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
            async with ctx.uow() as tx:
                stored = StoredAnswer(answer.status_code, headers, bytes(answer.body))
                await tx.idempotency.answer(caller.id, key, stored)
            kept = True
        return answer
    finally:
        if not kept:
            broke_off = isinstance(getattr(request.state, "failed", None), DatabaseUnavailable)
            sure = answer is not None and not _to_keep(answer) and not broke_off
            async with ctx.uow() as tx:
                await tx.idempotency.release(caller.id, key, begun=sure)


def _to_keep(answer: Response) -> bool:
    final = answer.status_code < 500 and answer.status_code not in NOT_KEPT
    return final and "retry-after" not in answer.headers


@asynccontextmanager
async def _alive(ctx: Context, caller_id: str, key: str) -> AsyncIterator[None]:
    """Renews the claim as long as the block lasts."""
    renewing = asyncio.create_task(_renew(ctx, caller_id, key))
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(ctx: Context, caller_id: str, key: str) -> None:
    while True:
        await asyncio.sleep(RENEWED_EVERY)
        try:
            async with ctx.uow() as tx:
                await tx.idempotency.renew(caller_id, key, ctx.clock.now())
        except IntegrationError as error:
            log.warning("a claim could not be renewed", error=str(error))


async def fingerprint(request: Request) -> bytes:
    """What makes two requests the same: method, path with query, body."""
    digest = hashlib.sha256()
    for part in (request.method, request.scope["path"], request.url.query):
        digest.update(part.encode() + b"\0")
    digest.update(await request.body())
    return digest.digest()
