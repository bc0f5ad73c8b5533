"""Option mappings: NAV records that stand for the options of one CRM attribute (nav-behaviour 10.9)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.domain.company import Company
from app.domain.conversion import cut
from app.domain.errors import IntegrationError
from app.domain.mapping import TableMapping
from app.domain.records import Option, TableDefinition
from app.ports import Context, CrmSide, NavSide


@dataclass(frozen=True, slots=True)
class OptionValues:
    """Which NAV key stands for which option value, the keys that were new, and what NAV refused."""

    mapping: TableMapping
    values: Mapping[str, int]
    created: tuple[str, ...] = ()
    refused: Mapping[str, IntegrationError] | None = None


async def synchronize_options(
    ctx: Context,
    company: Company,
    nav: NavSide,
    crm: CrmSide,
    mapping: TableMapping,
    *,
    preview: bool = False,
) -> OptionValues:
    """Finds or creates the NAV record of every option that CRM has, and remembers the pairs.

    NAV records are never deleted. Raises TableNotFound, and what the two sides raise.
    """
    found = await find_or_create(nav, crm, mapping, preview=preview)
    if not preview:
        async with ctx.uow() as tx:
            await tx.option_mappings.replace(
                company.id, mapping.nav_table, mapping.option_attribute or "", found.values
            )
    return found


async def find_or_create(
    nav: NavSide, crm: CrmSide, mapping: TableMapping, *, preview: bool = False
) -> OptionValues:
    """The first half of `synchronize_options`: what NAV has, without our memory of it."""
    definition = await nav.definition(mapping.nav_table)
    entity = await crm.definition(mapping.crm_entity)
    attribute = entity.fields.get(mapping.option_attribute or "")
    wanted = option_keys(definition, attribute.options if attribute else ())
    present = await nav.by_key(mapping.nav_table, list(wanted), definition.primary_key)
    missing = [key for key in wanted if key not in present]
    refused: dict[str, IntegrationError] = {}
    if missing and not preview:
        fields = [(key, _values(definition, wanted[key])) for key in missing]
        answers = await nav.bulk(mapping.nav_table, fields)
        pairs = zip(missing, answers, strict=True)
        refused = {key: answer for key, answer in pairs if isinstance(answer, IntegrationError)}
    values = {key: option.value for key, option in wanted.items() if key not in refused}
    created = tuple(key for key in missing if key not in refused)
    return OptionValues(mapping, values, created, refused)


def option_keys(table: TableDefinition, options: Iterable[Option]) -> dict[str, Option]:
    """The key each option has in NAV: its label in capitals, without blanks and punctuation but the
    percent sign, cut to the length of the key. Blank options have none; of two with one key the first counts.
    """
    length = table.fields[table.primary_key[0]].length
    keys: dict[str, Option] = {}
    for option in options:
        key = cut(re.sub(r"[^\w%]|_", "", option.label or option.name).upper(), length)
        if key and option.value >= 0:
            keys.setdefault(key, option)
    return keys


def _values(table: TableDefinition, option: Option) -> dict[str, str]:
    description = table.fields.get("Description") or table.fields.get("Name")
    return {} if description is None else {description.name: cut(option.label, description.length)}
