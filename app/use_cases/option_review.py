"""Option values that only one side has: they are left alone by every synchronization, and listed here (E-35)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.domain.company import Company
from app.domain.connection import require_enabled
from app.domain.mapping import TableMapping
from app.domain.records import Option, TableDefinition
from app.ports import Context, NavSide
from app.use_cases.options import option_keys

PAGE: Final = 1000
REFRESH: Final = "POST …/integration-table-mappings/{}/synchronize reads the options of CRM again."


class OptionState(StrEnum):
    """Which side has an option."""

    COUPLED = "coupled"
    MISSING_IN_CRM = "missing_in_crm"
    MISSING_IN_NAV = "missing_in_nav"


@dataclass(frozen=True, slots=True)
class ReviewedOption:
    """A NAV record that stands for an option, an option of CRM, or both."""

    mapping: str
    nav_table: str
    nav_no: str | None
    crm_entity: str
    crm_attribute: str
    option: Option | None
    state: OptionState
    fix: str | None


async def review_options(ctx: Context, company: Company) -> list[ReviewedOption]:
    """Every option of every option mapping, by mapping and then by what it is called.

    CRM is asked for its option sets, which it is known for some minutes. Raises ConnectionDisabled, and what the two
    sides say.
    """
    async with ctx.uow() as tx:
        connection = require_enabled(await tx.connections.find(company.id))
        stored = [each.mapping for each in await tx.mappings.all(company.id)]
        known = await tx.option_mappings.all(company.id)
    nav, crm = ctx.sides.nav(company), ctx.sides.crm(company, connection)
    found: list[ReviewedOption] = []
    for mapping in (each for each in stored if each.option_attribute is not None):
        attribute = mapping.option_attribute or ""
        definition = await nav.definition(mapping.nav_table)
        entity = await crm.definition(mapping.crm_entity)
        values = known.get((mapping.nav_table, attribute), {})
        keys = await _keys(nav, mapping.nav_table)
        found += _compared(mapping, keys, values, definition, entity)
    return found


async def _keys(nav: NavSide, table: str) -> list[str]:
    keys: list[str] = []
    cursor: str | None = None
    while True:
        records, cursor = await nav.records(table, limit=PAGE, cursor=cursor)
        keys += [record.key for record in records]
        if cursor is None:
            return keys


def _compared(
    mapping: TableMapping,
    keys: list[str],
    values: dict[str, int],
    definition: TableDefinition,
    entity: TableDefinition,
) -> list[ReviewedOption]:
    attribute = mapping.option_attribute or ""
    field = entity.fields.get(attribute)
    options = option_keys(definition, field.options if field else ())
    by_value = {option.value: option for option in options.values()}

    def reviewed(
        nav_no: str | None, option: Option | None, state: OptionState, fix: str | None
    ) -> ReviewedOption:
        return ReviewedOption(
            mapping.name, mapping.nav_table, nav_no, mapping.crm_entity, attribute, option, state, fix
        )

    found = []
    for key in keys:
        option = by_value.get(values.get(key, -1))
        if option is not None:
            found.append(reviewed(key, option, OptionState.COUPLED, None))
        else:
            fix = f"Add an option of that name to {attribute} in CRM. {REFRESH.format(mapping.name)}"
            found.append(reviewed(key, None, OptionState.MISSING_IN_CRM, fix))
    coupled = {values[key] for key in keys if key in values}
    missing = [option for option in by_value.values() if option.value not in coupled]
    fix = REFRESH.format(mapping.name)
    return found + [reviewed(None, option, OptionState.MISSING_IN_NAV, fix) for option in missing]
