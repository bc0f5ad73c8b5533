"""The one record a call is about: found in NAV, with its mapping, its integration id and its coupling."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from app.domain import links
from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.eligibility import obstacle
from app.domain.errors import CrmRecordNotFound, IntegrationError, NavRecordNotFound, NotCoupled
from app.domain.records import Side, Snapshot
from app.ports import Context, NavRecord, NavSide
from app.use_cases.results import CoupledRecord
from app.use_cases.setting import Setting, open_setting


@dataclass(frozen=True, slots=True)
class Subject:
    """A NAV record and what it is coupled with. `id_generated`: it got its integration id just now."""

    setting: Setting
    snapshot: Snapshot
    coupling: Coupling | None
    id_generated: bool = False

    @property
    def coupled(self) -> Coupling:
        """Its coupling. Raises NotCoupled with the call that couples."""
        if self.coupling is None or self.coupling.status is CouplingStatus.RESERVED:
            key = self.snapshot.key
            address = links.address_of(self.setting.mapping.nav_table, key)
            raise NotCoupled(
                f"{self.setting.shape.nav.label} {key} is not coupled to a CRM {self.setting.mapping.crm_entity}.",
                fix=f"PUT {address}/coupling couples it, POST {address}/create-in-crm creates its partner.",
            )
        return self.coupling


async def nav_record(nav: NavSide, table: str, key: str) -> NavRecord:
    """The record. Raises NavRecordNotFound."""
    found = await nav.by_key(table, [key])
    if key not in found:
        raise nav_record_not_found(table, key)
    return found[key]


def nav_record_not_found(table: str, key: str) -> NavRecordNotFound:
    """What is said of a key that no record has."""
    return NavRecordNotFound(
        f"There is no record {key} in {table}.", fix=f"GET …/nav/{table} lists the records."
    )


async def subject(
    ctx: Context, company: Company, table: str, key: str, *, mapping: str | None = None, make_id: bool = True
) -> Subject:
    """The record a call is about.

    A record without an integration id gets one on the way (seed-checklist, decisions), unless `make_id` is off.
    Raises ConnectionDisabled, MappingNotFound, NavRecordNotFound, and why it may not be coupled at all.
    """
    about = (await subjects(ctx, company, table, [key], mapping=mapping, make_id=make_id))[key]
    if isinstance(about, IntegrationError):
        raise about
    return about


async def subjects(
    ctx: Context,
    company: Company,
    table: str,
    keys: Collection[str],
    *,
    mapping: str | None = None,
    make_id: bool = True,
) -> dict[str, Subject | IntegrationError]:
    """The same for several records of a table, in as many trips as for one: each or what is wrong with it.

    Raises ConnectionDisabled, MappingNotFound.
    """
    setting = await open_setting(ctx, company, mapping=mapping, nav_table=table)
    records = await setting.nav.by_key(table, keys)
    wrong = {key: problem for key in keys if (problem := _problem(table, key, records.get(key))) is not None}
    fit = {key: record for key, record in records.items() if key not in wrong}
    ids = {key: record.integration_id for key, record in fit.items() if record.integration_id is not None}
    new = [key for key in fit if key not in ids] if make_id else []
    made = await setting.nav.ensure_ids(table, new) if new else {}
    coupled: Mapping[UUID, Coupling] = {}
    if ids:
        async with ctx.uow() as tx:
            coupled = await tx.couplings.of_nav(company.id, table, set(ids.values()))
    found: dict[str, Subject | IntegrationError] = dict(wrong)
    for key, record in fit.items():
        id_ = ids.get(key) or made.get(key) or UUID(int=0)
        snapshot = Snapshot(id_, record.key, record.version, record.values, record.modified_at)
        found[key] = Subject(setting, snapshot, coupled.get(id_), key in made)
    return found


def _problem(table: str, key: str, record: NavRecord | None) -> IntegrationError | None:
    return nav_record_not_found(table, key) if record is None else obstacle(table, key, record.values)


async def crm_snapshot(setting: Setting, crm_id: UUID) -> Snapshot:
    """The CRM row. Raises CrmRecordNotFound, CrmRefused for a value that does not fit its attribute."""
    found = await setting.crm.get(setting.mapping.crm_entity, [crm_id], setting.fields(Side.CRM))
    return readable_row(setting, crm_id, found)


def readable_row(setting: Setting, crm_id: UUID, found: Mapping[UUID, Snapshot]) -> Snapshot:
    """The row among those found. Raises as `crm_snapshot`."""
    if crm_id not in found:
        entity = setting.mapping.crm_entity
        raise CrmRecordNotFound(
            f"There is no {entity} {crm_id} in CRM.",
            fix=f"GET …/crm/{setting.shape.crm.entity_set} lists the records.",
        )
    return found[crm_id].readable()


def linked(company: Company, connection: ConnectionSetup, coupling: Coupling) -> CoupledRecord:
    """The coupling with the links of both its records."""
    return CoupledRecord(
        coupling=coupling,
        nav_url=links.nav_url(company, coupling.nav_table, coupling.nav_key),
        crm_url=links.crm_url(connection, coupling.crm_entity, coupling.crm_id),
    )
