"""Generate integration IDs (nav-behaviour 2.4)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.domain.company import Company, Generation
from app.domain.defaults import default_mappings
from app.domain.mapping import TableMapping
from app.ports import Context, NavSide


@dataclass(frozen=True, slots=True)
class GeneratedIds:
    """How many records got an integration id, by table."""

    generated: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many in all tables."""
        return sum(self.generated.values())


def mapped_tables(generation: Generation, mappings: Iterable[TableMapping]) -> set[str]:
    """The NAV tables whose records need integration ids: the mapped ones, before there are any mappings
    those of the default setup."""
    return {mapping.nav_table for mapping in mappings} or {
        mapping.nav_table for mapping in default_mappings(generation)
    }


async def generate_integration_ids(ctx: Context, company: Company, *, preview: bool = False) -> GeneratedIds:
    """Gives every record of the mapped tables that has none an integration id. Existing ids never
    change, and the connection need not be enabled. A preview counts the records and changes nothing."""
    async with ctx.uow() as tx:
        mappings = [stored.mapping for stored in await tx.mappings.all(company.id)]
    nav = ctx.sides.nav(company)
    tables = await tracked(nav, mapped_tables(company.defaults_generation, mappings))
    return GeneratedIds(await (nav.without_ids(tables) if preview else nav.generate_ids(tables)))


async def tracked(nav: NavSide, tables: Iterable[str]) -> list[str]:
    """Those of the tables that NAV keeps integration ids for: posted lines, for one, have none."""
    known = {definition.name for definition in await nav.definitions() if definition.tracks_changes}
    return sorted(known.intersection(tables))
