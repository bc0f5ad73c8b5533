"""Deletions that look like an accident stop a run before anything follows from the first of them."""

from collections.abc import Sequence
from uuid import UUID

from app.domain.errors import TooManyDeletions
from app.domain.mapping import Direction
from app.ports import Context, Page
from app.use_cases import deleted
from app.use_cases.reading import Reading
from app.use_cases.setting import Setting

SHARE = 0.1
"""More deletions than this share of the mapping's couplings in one run ask for a person."""
MINIMUM = 20
"""Fewer deletions than this never brake: in a small table every share is large."""


class Brake:
    """The brake of one run in one direction; `released` where many deletions were allowed."""

    def __init__(
        self,
        ctx: Context,
        setting: Setting,
        run: Direction,
        reading: Reading,
        *,
        released: bool,
    ) -> None:
        self._ctx = ctx
        self._setting = setting
        self._run = run
        self._reading = reading
        self._released = released
        self._followed = 0  # of pages before

    async def check(self, page: Page, gone: int) -> None:
        """Asks before `gone` deletions of that page are followed. Raises TooManyDeletions.

        Where more pages may follow, all of them are read and counted, once in a run and only if something was deleted.
        """
        if self._released or not gone:
            return
        async with self._ctx.uow(reading=True) as tx:
            coupled = await tx.couplings.count(self._setting.company.id, self._setting.mapping.name)
        limit, at_least = max(coupled * SHARE, MINIMUM - 1), ""
        gone += self._followed
        if page.more:
            self._released, at_least, gone = True, "At least ", self._followed
            async for each in self._reading.ahead(self._run):
                gone += await self._gone(each.deleted)
                if gone > limit:
                    break
        if gone > limit:
            name = self._setting.mapping.name
            raise TooManyDeletions(
                f"{at_least}{gone} of {coupled} coupled records of mapping {name} were deleted; "
                "the run stopped before it followed so many.",
                fix=f"If that is right, POST …/integration-table-mappings/{name}/synchronize with allow_deletions.",
            )
        self._followed = gone

    async def _gone(self, ids: Sequence[UUID]) -> int:
        if not ids:
            return 0
        return deleted.to_ask_about(await deleted.gone(self._ctx, self._setting, self._run, ids))
