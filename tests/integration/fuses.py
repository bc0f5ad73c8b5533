"""Something that happens at one step of what the service does: it dies there, or a person is quicker.

A step is a transaction of our memory, a call at the NAV side, or a request to CRM. It happens before the step is
taken, or after it was carried out and before anybody learned of it.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
from starlette.applications import Starlette

from app.domain.company import Company, ConnectionSetup
from app.ports import (
    ConnectionReport,
    Context,
    CrmSide,
    NavSide,
    Page,
    RecordStore,
    SideFactory,
    Transaction,
    UnitOfWork,
)
from tests.crm_sandbox import Wire


class Crash(BaseException):
    """The process died here; nothing of ours may catch it."""


class Fuse:
    """Blows once, at the n-th step after it was lit. What crashed stays dead until the fuse is put out."""

    def __init__(self) -> None:
        self._left, self._after, self._dead = 0, False, False
        self._instead: Callable[[], Awaitable[None]] | None = None

    def light(self, steps: int, *, after: bool, instead: Callable[[], Awaitable[None]] | None = None) -> None:
        """From here on so many steps are taken; then comes the crash, or what happens instead."""
        self.put_out()
        self._left, self._after, self._instead = steps, after, instead

    def put_out(self) -> None:
        """Nothing happens any more."""
        self._left, self._after, self._dead = 0, False, False
        self._instead = None

    async def before(self, *, locked: bool = False) -> int:
        """A step is about to be taken; its number, the last one's being 0. Several may be under way. While what was
        written before is `locked`, a person would have to wait for us."""
        if self._dead:
            raise Crash
        self._left -= 1
        step = self._left
        if step == 0 and not self._after and not (locked and self._instead):
            await self._blow()
        return step

    async def after(self, step: int, *, locked: bool = False) -> None:
        """That step was carried out. While what it wrote is `locked`, a person would have to wait for us."""
        if self._dead:
            raise Crash
        if step == 0 and self._after and not (locked and self._instead):
            await self._blow()

    async def _blow(self) -> None:
        self._left = -1
        if self._instead is None:
            self._dead = True
            raise Crash
        await self._instead()


class FusedWire(Wire):
    """The way to the sandbox; every request on it is a step."""

    def __init__(self, crm: Starlette, fuse: Fuse) -> None:
        super().__init__(crm)
        self._fuse = fuse

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        step = await self._fuse.before()
        response = await super().handle_async_request(request)
        await self._fuse.after(step)
        return response


class _Nav:
    """The NAV side; every call is a step, also within a transaction of ours."""

    def __init__(self, nav: RecordStore, fuse: Fuse, *, locked: bool = False) -> None:
        self._nav: Any = nav
        self._fuse = fuse
        self._locked = locked

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._nav, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            step = await self._fuse.before(locked=self._locked)
            answer = await found(*args, **options)
            await self._fuse.after(step, locked=self._locked)
            return answer

        return call

    def within(self, tx: Transaction) -> RecordStore:
        """The same within a transaction."""
        return cast("RecordStore", _Nav(self._nav.within(tx), self._fuse, locked=True))

    async def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """The pages, each of them a step."""
        step = await self._fuse.before()
        async for page in self._nav.changes(table, fields, since):
            await self._fuse.after(step)
            yield page
            step = await self._fuse.before()
        await self._fuse.after(step)


class _Sides:
    """Both sides; the way to CRM has its own fuse."""

    def __init__(self, sides: SideFactory, fuse: Fuse) -> None:
        self._sides = sides
        self._fuse = fuse

    def nav(self, company: Company) -> NavSide:
        """The NAV side."""
        return cast("NavSide", _Nav(self._sides.nav(company), self._fuse))

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side."""
        return self._sides.crm(company, connection)

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection."""
        return await self._sides.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Closes what was opened."""
        await self._sides.forget(company)


class _Memory:
    """Our memory; every transaction is a step."""

    def __init__(self, uow: UnitOfWork, fuse: Fuse) -> None:
        self._uow = uow
        self._fuse = fuse

    def __call__(self, *, reading: bool = False) -> AbstractAsyncContextManager[Transaction]:
        return self._open(reading)

    @asynccontextmanager
    async def _open(self, reading: bool) -> AsyncIterator[Transaction]:
        step = await self._fuse.before()
        async with self._uow(reading=reading) as tx:
            yield tx
        await self._fuse.after(step)


def fused(ctx: Context, fuse: Fuse) -> Context:
    """The same context, our memory and the NAV side behind the fuse."""
    return replace(ctx, uow=_Memory(ctx.uow, fuse), sides=_Sides(ctx.sides, fuse))
