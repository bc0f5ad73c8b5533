"""Ports that break when a test says so: a call that never happens, or one whose answer never arrives."""

import inspect
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from app.domain.company import Company, ConnectionSetup
from app.ports import ConnectionReport, Context, CrmSide, NavSide, Page, SideFactory, Transaction, UnitOfWork


class Crash(Exception):
    """The process died here."""


class Fuse:
    """Blows at the n-th call, before it is made or after it was carried out."""

    def __init__(self, calls: int, *, after: bool) -> None:
        self._left = calls
        self._after = after

    def before(self) -> None:
        """A call is about to be made."""
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Crash

    def after(self) -> None:
        """A call was carried out."""
        if self._left == 0 and self._after:
            raise Crash


class _Store:
    """A record store behind a fuse."""

    def __init__(self, store: NavSide | CrmSide, fuse: Fuse) -> None:
        self._store = store
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            self._fuse.before()
            answer = await found(*args, **options)
            self._fuse.after()
            return answer

        return call

    async def changes(self, table: str, fields: Collection[str], since: str | None) -> AsyncIterator[Page]:
        """The pages, each of them a call."""
        self._fuse.before()
        async for page in self._store.changes(table, fields, since):
            self._fuse.after()
            yield page
            self._fuse.before()


class _Sides:
    """Both sides behind one fuse."""

    def __init__(self, sides: SideFactory, fuse: Fuse) -> None:
        self._sides = sides
        self._fuse = fuse

    def nav(self, company: Company) -> NavSide:
        """The NAV side."""
        return cast("NavSide", _Store(self._sides.nav(company), self._fuse))

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side."""
        return cast("CrmSide", _Store(self._sides.crm(company, connection), self._fuse))

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection."""
        return await self._sides.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Closes what was opened."""
        await self._sides.forget(company)


class _Memory:
    """Our memory behind a fuse: it blows before a transaction begins, or after it was committed."""

    def __init__(self, uow: UnitOfWork, fuse: Fuse) -> None:
        self._uow = uow
        self._fuse = fuse

    def __call__(self) -> AbstractAsyncContextManager[Transaction]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Transaction]:
        self._fuse.before()
        async with self._uow() as tx:
            yield tx
        self._fuse.after()


def fused(ctx: Context, fuse: Fuse) -> Context:
    """The same context, every port of it behind the fuse."""
    return replace(ctx, uow=_Memory(ctx.uow, fuse), sides=_Sides(ctx.sides, fuse))
