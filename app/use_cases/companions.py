"""What goes along with a record towards CRM: the price of a product, the unit of a unit group.

They follow once the record itself is written, in sets. What fails here fails its record, which is then tried
again as a whole; so every step finds what an earlier attempt left.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID, uuid5

from app.domain.coded import ACTIVE
from app.domain.company import Generation
from app.domain.coupling import NO_CHANGES, Changes, CouplingStatus, SynchAction
from app.domain.errors import AlreadyExists, IntegrationError, SideRefused, UnitGroupInvalid
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.records import Reference, Side, Snapshot, Value
from app.domain.units import UNIT_FIELDS, only_unit
from app.ports import CrmSide, Delete, Insert, Refused, Update, Write, Written
from app.use_cases.items import Item
from app.use_cases.setting import Setting

PRODUCT: Final = "product"
PRICE_LIST: Final = "pricelevel"
PRICE: Final = "productpricelevel"
NUMBER: Final = "productnumber"
STATE: Final = "statecode"
NAV_PRODUCT: Final = {
    Generation.NAV2017: "Dynamics NAV",
    Generation.NAV2018: "Dynamics NAV",
    Generation.BC: "Business Central",
}


class Companions:
    """The companions of the records of one run. Where somebody chose the side that wins (`force`), they are looked
    at although the record did not change: in CRM the companions may have (nav-behaviour 11.2)."""

    def __init__(self, setting: Setting, run: Direction, *, force: bool) -> None:
        self._setting = setting
        self._run = run
        self._force = force
        self._price_lists: dict[UUID, UUID] = {}  # currency -> its default price list

    async def follow(self, items: Sequence[Item]) -> None:
        """Brings the companions of written records up to date. A fixed number of requests, whatever the set."""
        if self._run is not Direction.TO_CRM:
            return
        if self._setting.mapping.crm_entity == PRODUCT:
            await self._name_existing(items)
        written = [item for item in items if _follows(item, self._force)]
        if not written:
            return
        match self._setting.mapping.crm_entity:
            case "product":
                await self._prices(written)
            case "uomschedule":
                await _rename_units(self._setting.crm, written)

    # --- products -------------------------------------------------------------------------------------

    async def _name_existing(self, items: Sequence[Item]) -> None:
        """Numbers of products are unique in CRM: one that is taken names the product that has it."""
        taken = {item.source.key: item for item in items if isinstance(item.error, AlreadyExists)}
        found = await self._setting.crm.match(PRODUCT, NUMBER, taken) if taken else {}
        for key, products in found.items():
            table, product = self._setting.mapping.nav_table, products[0].id
            taken[key].error = AlreadyExists(
                f"CRM has a product with the number {key} already: {product}.",
                fix=f'PUT {address_of(table, key)}/coupling with {{"crm_id": "{product}"}} couples with it.',
                extra={"crm_entity": PRODUCT, "crm_id": str(product)},
            )

    async def _take_back(self, items: Sequence[Item]) -> None:
        """New products whose price was refused go again: a product comes with its price or not at all."""
        deletes = [Delete(item.held.crm_id) for item in items]
        for item, answer in zip(items, await _answers(self._setting.crm, PRODUCT, deletes), strict=True):
            if isinstance(answer, Refused):
                continue  # it is there, and stays coupled with its failure
            item.after, item.changes, item.release = None, NO_CHANGES, True

    # --- prices ---------------------------------------------------------------------------------------

    async def _prices(self, items: Sequence[Item]) -> None:
        """Every product has a price in the default price list, equal to its own (nav-behaviour 10.6)."""
        priced = [item for item in items if _price_of(item) is not None]
        by_currency: dict[UUID, list[Item]] = {}
        for item in priced:
            if (currency := _reference(item, "transactioncurrencyid")) is not None:
                by_currency.setdefault(currency, []).append(item)
        new = [item for item in items if item.action is SynchAction.INSERTED]
        for currency, some in by_currency.items():
            try:
                price_list = await self._price_list(currency)
            except SideRefused as error:
                for item in some:
                    _fail(item, error)
                continue
            await self._prices_in(price_list, some)
        await self._activate([item for item in new if item.error is None])
        await self._take_back([item for item in new if item.error is not None])

    async def _price_list(self, currency: UUID) -> UUID:
        """The default price list in that currency, found by its name or made."""
        if currency in self._price_lists:
            return self._price_lists[currency]
        crm, name = self._setting.crm, price_list_name(self._setting.company.defaults_generation)
        found = await crm.match(PRICE_LIST, "name", [name], ("transactioncurrencyid",))
        of = Reference(currency, "transactioncurrency")
        same = [row.id for row in found.get(name, ()) if row.values.get("transactioncurrencyid") == of]
        if same:
            chosen = min(same)
        else:
            # The id follows from the currency and the name: whoever is first makes it for all.
            chosen = uuid5(currency, name)
            (answer,) = await crm.write(
                PRICE_LIST, [Insert(chosen, {"name": name, "transactioncurrencyid": of})]
            )
            if isinstance(answer, Refused):
                raise answer.error
        self._price_lists[currency] = chosen
        return chosen

    async def _prices_in(self, price_list: UUID, items: Sequence[Item]) -> None:
        crm = self._setting.crm
        shown = await _shown_prices(crm, price_list, items)
        writes: list[tuple[Item, Write]] = []
        for item in items:
            write = _price_write(item, price_list, shown.get(item.held.crm_id))
            if write is not None:
                writes.append((item, write))
        answers = await _answers(crm, PRICE, [write for _, write in writes])
        for (item, _), answer in zip(writes, answers, strict=True):
            if isinstance(answer, Refused):
                _fail(item, answer.error)
                continue
            before = shown.get(item.held.crm_id)
            new: dict[str, Value] = {}
            if before is None:
                new[f"{PRICE}.{PRICE}id"] = Reference(answer.id, PRICE)
            new[f"{PRICE}.amount"] = _price_of(item)
            old = {f"{PRICE}.amount": before.values.get("amount")} if before else {}
            _wrote(item, Changes(Side.CRM, new, old))

    async def _activate(self, items: Sequence[Item]) -> None:
        """New products become active and learn their price list, which CRM does not take with a create."""
        wanted = [self._completing(item) for item in items]
        updates = [Update(i.held.crm_id, values) for i, values in zip(items, wanted, strict=True)]
        answers = await _answers(self._setting.crm, PRODUCT, updates)
        for item, values, answer in zip(items, wanted, answers, strict=True):
            if isinstance(answer, Refused):
                _fail(item, answer.error)
                continue
            item.changes += Changes(Side.CRM, values)
            if answer.snapshot is not None and item.after is not None:
                known = {**item.after.values, STATE: ACTIVE}
                item.after = replace(item.after, version=answer.snapshot.version, values=known)

    def _completing(self, item: Item) -> dict[str, Value]:
        currency = _reference(item, "transactioncurrencyid")
        price_list = self._price_lists.get(currency) if currency is not None else None
        named = {"pricelevelid": Reference(price_list, PRICE_LIST)} if price_list is not None else {}
        return {STATE: ACTIVE, **named}


def price_list_name(generation: Generation) -> str:
    """What NAV calls its default price list in CRM."""
    return f"{NAV_PRODUCT[generation]} Default Price List"


async def _answers(crm: CrmSide, entity: str, writes: Sequence[Write]) -> Sequence[Written | Refused]:
    """What became of each write; a refusal of them all is one of each."""
    try:
        return await crm.write(entity, writes)
    except SideRefused as error:
        return [Refused(write.id, error) for write in writes]


def _follows(item: Item, force: bool) -> bool:
    """Whether the record was written, or its companions may be missing: newly coupled, or failed last time."""
    if item.error is not None or item.after is None or item.coupling is None:
        return False
    if force or item.action in (SynchAction.INSERTED, SynchAction.MODIFIED):
        return True
    return item.coupling.base is None or item.coupling.last_error is not None


def _wrote(item: Item, changes: Changes) -> None:
    """A companion was written: that counts as modified, too (nav-behaviour 7)."""
    item.changes += changes
    if item.action is SynchAction.UNMODIFIED:
        item.action = SynchAction.MODIFIED


def _fail(item: Item, error: IntegrationError) -> None:
    """The record failed although it is there: its coupling is no mere intent any more."""
    item.fail(error)
    item.coupling = replace(item.held, status=CouplingStatus.COUPLED)


def _price_of(item: Item) -> Value:
    return item.after.values.get("price") if item.after else None


def _reference(item: Item, name: str) -> UUID | None:
    value = item.after.values.get(name) if item.after else None
    return value.id if isinstance(value, Reference) else None


async def _shown_prices(crm: CrmSide, price_list: UUID, items: Sequence[Item]) -> dict[UUID, Snapshot]:
    """The prices of these products in that list, by product."""
    products = {str(item.held.crm_id): item.held.crm_id for item in items}
    found = await crm.match(PRICE, "productid", products, ("pricelevelid", "amount", "uomid"))
    wanted = Reference(price_list)
    return {
        products[product]: row
        for product, rows in found.items()
        for row in rows
        if row.values.get("pricelevelid") == wanted
    }


def _price_write(item: Item, price_list: UUID, shown: Snapshot | None) -> Write | None:
    """What makes the price in the list equal to that of the product; None where it is."""
    product, unit = item.held.crm_id, _reference(item, "defaultuomid")
    if unit is None:
        return None
    values: dict[str, Value] = {"amount": _price_of(item), "uomid": Reference(unit, "uom")}
    if shown is None:
        keys = {"productid": Reference(product, PRODUCT), "pricelevelid": Reference(price_list, PRICE_LIST)}
        return Insert(uuid5(product, str(price_list)), {**values, **keys})
    changed = {name: value for name, value in values.items() if shown.values.get(name) != value}
    return Update(shown.id, changed) if changed else None


# --- units -----------------------------------------------------------------------------------------


async def _rename_units(crm: CrmSide, items: Sequence[Item]) -> None:
    """The one unit of a group carries the code of the unit of measure (nav-behaviour 10.5)."""
    known = [item for item in items if item.action is not SynchAction.INSERTED]
    groups = {str(item.held.crm_id): item for item in known}
    if not groups:
        return
    units = await crm.match("uom", "uomscheduleid", groups, UNIT_FIELDS)
    renamed: list[tuple[Item, Update]] = []
    names: dict[UUID, Value] = {}
    for group, item in groups.items():
        try:
            unit = only_unit(item.source.key, units.get(group, ()))
        except UnitGroupInvalid as error:
            _fail(item, error)
            continue
        if unit.values.get("name") != item.source.key:
            renamed.append((item, Update(unit.id, {"name": item.source.key})))
            names[unit.id] = unit.values.get("name")
    answers = await crm.write("uom", [update for _, update in renamed])
    for (item, update), answer in zip(renamed, answers, strict=True):
        if isinstance(answer, Refused):
            _fail(item, answer.error)
        else:
            _wrote(item, Changes(Side.CRM, {"uom.name": item.source.key}, {"uom.name": names[update.id]}))
