"""Records that know their partner in CRM by what it is called, before they are coupled (nav-behaviour 6.2)."""

from collections.abc import Sequence
from dataclasses import replace

from app.domain.cell import Lookups
from app.domain.coupling import Coupling
from app.domain.errors import AlreadyCoupled
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.records import Side
from app.domain.transfer import translate
from app.ports import Context
from app.use_cases import remembering
from app.use_cases.items import Item
from app.use_cases.setting import Setting

KNOWN_BY = {
    ("currencies", "transactioncurrency"): "isocurrencycode",
    ("units-of-measure", "uomschedule"): "name",
}
"""By NAV table and entity: the attribute that says which row it is."""


async def find(ctx: Context, setting: Setting, run: Direction, items: Sequence[Item]) -> None:
    """Pairs uncoupled records with the rows of CRM they would be created as; one request. `keep` saves it.

    Where CRM has several rows of that name, none of them is the partner.
    """
    mapping = setting.mapping
    attribute = KNOWN_BY.get((mapping.nav_table, mapping.crm_entity))
    if attribute is None or run is not Direction.TO_CRM:
        return
    new = [item for item in items if not item.settled and item.coupling is None]
    named = {name: item for item in new if (name := _name_in_crm(setting, item, attribute))}
    if not named:
        return
    found = await setting.crm.match(mapping.crm_entity, attribute, named, setting.fields(Side.CRM))
    for name, rows in found.items():
        if len(rows) == 1:
            item = named[name]
            item.coupling = setting.coupling(ctx.new_id(), item.source, rows[0].id)
            item.found, item.looked, item.matched = rows[0], True, True


def _name_in_crm(setting: Setting, item: Item, attribute: str) -> str:
    """The record's value of that attribute, whatever else may stand in the way of the record."""
    shape, mapping = setting.shape, setting.mapping
    only = mapping.with_fields(row for row in mapping.fields if row.crm_attribute == attribute)
    named = translate(replace(shape, mapping=only), Direction.TO_CRM, item.source.values, None, Lookups())
    return str(named.wanted.get(attribute) or "")


async def keep(ctx: Context, setting: Setting, run: Direction, items: Sequence[Item]) -> None:
    """Saves the couplings with found partners, in one short transaction. A partner that is another record's
    already fails its record."""
    matched = [item for item in items if item.matched]
    if not matched:
        return
    async with ctx.uow() as tx:
        held = await tx.couplings.reserve(setting.company.id, [item.held for item in matched])
    for item, coupling in zip(matched, held, strict=True):
        item.matched = False
        if coupling.nav_id == item.source.id:
            item.coupling = coupling
        else:
            item.coupling = None
            item.fail(_taken(remembering.named(setting, run, item), coupling))


def _taken(named: str, by: Coupling) -> AlreadyCoupled:
    return AlreadyCoupled(
        f"{named} would be {by.crm_entity} {by.crm_id} by its name, but that is coupled with {by.nav_key}.",
        fix=f"DELETE {address_of(by.nav_table, by.nav_key)}/coupling sets it free.",
    )
