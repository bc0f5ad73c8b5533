"""Lookups through couplings, resolved in sets: what the records of a page refer to on the other side."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from uuid import UUID

from app.domain.cell import BASE_UNIT, CURRENCIES, EXCHANGE_RATE, UNITS, Lookups
from app.domain.conversion import unit_group_name, unit_of_group
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.errors import IntegrationError, UnitGroupInvalid
from app.domain.mapping import Direction
from app.domain.transfer import Need
from app.domain.units import GROUP_ACTIVE, UNIT_FIELDS, base_unit
from app.ports import Context
from app.use_cases.setting import Setting

CURRENCY_ENTITY = "transactioncurrency"
GROUP_ENTITY = "uomschedule"
ISO = "isocurrencycode"
FACTOR = "Currency_Factor"


class Resolver:
    """Resolves references for the pages of one run and keeps what it found for the next page.

    Only hits are kept: a record that is coupled during the run is found on the next page.
    """

    def __init__(self, ctx: Context, setting: Setting) -> None:
        self._ctx = ctx
        self._setting = setting
        self._crm_ids: dict[tuple[str, str], UUID] = {}
        self._nav_keys: dict[tuple[str, UUID], str] = {}
        self._base_units: dict[str, UUID | IntegrationError] = {}
        self._base_factor: Decimal | None = None
        self._rules = {row.rule for row in setting.mapping.rows(Direction.TO_CRM)}

    async def resolve(self, needs: Iterable[Need]) -> Lookups:
        """The lookups of a page. A fixed number of requests per table referred to, whatever the page."""
        keys: dict[str, set[str]] = defaultdict(set)
        ids: dict[str, set[UUID]] = defaultdict(set)
        wanted = list(needs)
        for need in wanted:
            # The local currency is found by its ISO code, whether currencies are mapped or not.
            if need.nav_table not in self._setting.entities and need.key != "":
                continue  # the translation says so, naming both tables
            if need.key is not None and (need.nav_table, need.key) not in self._crm_ids:
                keys[need.nav_table].add(need.key)
            if need.crm_id is not None and (need.nav_table, need.crm_id) not in self._nav_keys:
                ids[need.nav_table].add(need.crm_id)
        await self._resolve_keys(keys)
        await self._resolve_ids(ids)
        return Lookups(
            crm_ids=self._crm_ids,
            nav_keys=self._nav_keys,
            options=self._setting.options,
            entities=self._setting.entities,
            local_currency=self._setting.company.local_currency,
            base_currency=self._setting.connection.base_currency,
            base_factor=await self._base_currency_factor(),
            base_units=await self._base_units_of(wanted),
        )

    async def _resolve_keys(self, keys: Mapping[str, Collection[str]]) -> None:
        by_table: dict[str, dict[UUID, str]] = {}
        for table, wanted in keys.items():
            records = await self._setting.nav.by_key(table, wanted, ())
            by_table[table] = {
                record.integration_id: key
                for key, record in records.items()
                if record.integration_id is not None
            }
        if any(by_table.values()):
            async with self._ctx.uow(reading=True) as tx:
                for table, nav_ids in by_table.items():
                    found = await tx.couplings.of_nav(self._setting.company.id, table, nav_ids)
                    for nav_id, coupling in found.items():
                        if coupling.status is CouplingStatus.COUPLED:
                            self._crm_ids[table, nav_ids[nav_id]] = coupling.crm_id
        if keys.get(CURRENCIES):
            await self._match_currencies(keys[CURRENCIES], by_table.get(CURRENCIES, {}))
        if keys.get(UNITS) and self._setting.entities.get(UNITS) == GROUP_ENTITY:
            await self._match_unit_groups(keys[UNITS])

    async def _match_currencies(self, keys: Collection[str], nav_ids: Mapping[UUID, str]) -> None:
        """Currencies are found by their ISO code, and coupled at once (nav-behaviour 6.2, 8.2)."""
        local = self._setting.company.local_currency
        missing = {key: key or local for key in keys if (CURRENCIES, key) not in self._crm_ids}
        if not missing:
            return
        found = await self._setting.crm.match(CURRENCY_ENTITY, ISO, set(missing.values()))
        ids = {key: found[code][0].id for key, code in missing.items() if found.get(code)}
        id_of = {key: nav_id for nav_id, key in nav_ids.items()}
        await self._couple_currencies(
            {key: (id_of[key], crm_id) for key, crm_id in ids.items() if key in id_of}
        )
        for key, crm_id in ids.items():
            self._crm_ids[CURRENCIES, key] = crm_id

    async def _match_unit_groups(self, keys: Collection[str]) -> None:
        """A unit of measure need not be coupled: its group is known by its name (nav-behaviour 6.2, 10.6)."""
        names = {unit_group_name(key): key for key in keys if key and (UNITS, key) not in self._crm_ids}
        found = await self._setting.crm.match(GROUP_ENTITY, "name", names, ("statecode",))
        for name, groups in found.items():
            active = [group for group in groups if group.values.get("statecode") in (None, GROUP_ACTIVE)]
            if len(active) == 1:
                self._crm_ids[UNITS, names[name]] = active[0].id

    async def _base_units_of(self, needs: Iterable[Need]) -> Mapping[str, UUID | IntegrationError]:
        """The unit in each unit group that the records of a page refer to, or what is wrong with the group."""
        if BASE_UNIT not in self._rules:
            return {}
        keys = {need.key for need in needs if need.nav_table == UNITS and need.key}
        groups = {
            group: key
            for key in keys
            if not isinstance(self._base_units.get(key), UUID) and (group := self._crm_ids.get((UNITS, key)))
        }
        found = await self._setting.crm.match(
            "uom", "uomscheduleid", [str(group) for group in groups], UNIT_FIELDS
        )
        for group, key in groups.items():
            try:
                self._base_units[key] = base_unit(key, found.get(str(group), ()))
            except UnitGroupInvalid as error:
                self._base_units[key] = error
        return self._base_units

    async def _base_currency_factor(self) -> Decimal | None:
        """What CRM's base currency is worth in the local one, where that is another and rates are sent."""
        base = self._setting.connection.base_currency
        if EXCHANGE_RATE not in self._rules or base in (None, self._setting.company.local_currency):
            return None
        if self._base_factor is None:
            found = await self._setting.nav.by_key(CURRENCIES, [base], (FACTOR,))
            factor = found[base].values.get(FACTOR) if base in found else None
            self._base_factor = factor if isinstance(factor, Decimal) and factor else None
        return self._base_factor

    async def _resolve_ids(self, ids: Mapping[str, Collection[UUID]]) -> None:
        coupled: dict[str, dict[UUID, UUID]] = {}
        if ids:
            async with self._ctx.uow(reading=True) as tx:
                for table, crm_ids in ids.items():
                    found = await tx.couplings.of_crm(self._setting.company.id, table, crm_ids)
                    coupled[table] = {
                        c.nav_id: c.crm_id for c in found.values() if c.status is CouplingStatus.COUPLED
                    }
        for table, by_nav in coupled.items():
            if by_nav:
                for nav_id, snapshot in (await self._setting.nav.get(table, by_nav, ())).items():
                    self._nav_keys[table, by_nav[nav_id]] = snapshot.key
        for table, match in ((CURRENCIES, self._match_crm_currencies), (UNITS, self._match_crm_unit_groups)):
            missing = {i for i in ids.get(table, ()) if (table, i) not in self._nav_keys}
            if missing:
                await match(missing)

    async def _match_crm_currencies(self, crm_ids: Collection[UUID]) -> None:
        """The local currency is blank in NAV; any other must exist there under its ISO code (nav-behaviour 8.2)."""
        rows = await self._setting.crm.get(CURRENCY_ENTITY, crm_ids, (ISO,))
        iso = {crm_id: str(row.values.get(ISO) or "") for crm_id, row in rows.items()}
        others = {code for code in iso.values() if code and code != self._setting.company.local_currency}
        records = await self._setting.nav.by_key(CURRENCIES, others, ()) if others else {}
        pairs = {}
        for crm_id, code in iso.items():
            if code and code == self._setting.company.local_currency:
                self._nav_keys[CURRENCIES, crm_id] = ""
            elif code in records:
                self._nav_keys[CURRENCIES, crm_id] = records[code].key
                if (nav_id := records[code].integration_id) is not None:
                    pairs[records[code].key] = (nav_id, crm_id)
        await self._couple_currencies(pairs)

    async def _match_crm_unit_groups(self, crm_ids: Collection[UUID]) -> None:
        """A group that is not coupled stands for the unit of measure it is named after."""
        if self._setting.entities.get(UNITS) != GROUP_ENTITY:
            return
        groups = await self._setting.crm.get(GROUP_ENTITY, crm_ids, ("name",))
        codes = {crm_id: unit_of_group(str(row.values.get("name") or "")) for crm_id, row in groups.items()}
        records = await self._setting.nav.by_key(UNITS, set(codes.values()) - {""}, ())
        for crm_id, code in codes.items():
            if code in records:
                self._nav_keys[UNITS, crm_id] = records[code].key

    async def _couple_currencies(self, pairs: Mapping[str, tuple[UUID, UUID]]) -> None:
        if not pairs:
            return
        couplings = [
            Coupling(
                id=self._ctx.new_id(),
                mapping=self._setting.mapping_of[CURRENCIES],
                nav_table=CURRENCIES,
                nav_id=nav_id,
                nav_key=key,
                crm_entity=CURRENCY_ENTITY,
                crm_id=crm_id,
            )
            for key, (nav_id, crm_id) in pairs.items()
        ]
        async with self._ctx.uow() as tx:
            await tx.couplings.reserve(self._setting.company.id, couplings)
