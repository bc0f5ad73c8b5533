"""Doing something without its having happened: what a preview writes to our memory is taken back at once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from app.domain.company import Company, ConnectionSetup
from app.ports import ConnectionReport, Context, CrmSide, NavSide, SideFactory, Transaction, UnitOfWork


class _TakenBack(Exception):
    """Ends the transaction of a rehearsal."""


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """Opens transactions that never commit. What one writes, the next does not see."""

    uow: UnitOfWork

    @asynccontextmanager
    async def __call__(self, *, reading: bool = False) -> AsyncIterator[Transaction]:
        """A transaction that is rolled back when its block ends."""
        try:
            async with self.uow(reading=reading) as tx:
                yield tx
                raise _TakenBack
        except _TakenBack:
            pass


@dataclass(frozen=True, slots=True)
class _Sides:
    """The sides as they are: after a rehearsal there is nothing to be opened anew."""

    sides: SideFactory

    def nav(self, company: Company) -> NavSide:
        """The NAV side of the company."""
        return self.sides.nav(company)

    def crm(self, company: Company, connection: ConnectionSetup) -> CrmSide:
        """The CRM side behind the connection."""
        return self.sides.crm(company, connection)

    async def test(self, connection: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries the connection; changes nothing."""
        return await self.sides.test(connection, local_currency)

    async def forget(self, company: Company) -> None:
        """Nothing changed, so nothing is closed."""


def rehearsal(ctx: Context, preview: bool = True) -> Context:
    """The context in which a preview is carried out: checks and answers are the real ones, every transaction on
    our memory is taken back. What a use case writes to NAV or CRM it must leave out by itself."""
    if not preview or isinstance(ctx.uow, _Rehearsal):
        return ctx
    return replace(ctx, uow=_Rehearsal(ctx.uow), sides=_Sides(ctx.sides))
