"""Couplings that are chosen before the other side hears of the record."""

from uuid import UUID, uuid5

from app.domain.coupling import Coupling, CouplingStatus, Intent
from app.domain.mapping import Direction
from app.domain.records import Side, Snapshot
from app.use_cases.setting import Setting


def reservation(
    setting: Setting,
    run: Direction,
    source: Snapshot,
    coupling_id: UUID,
    other: UUID,
    intent: Intent | None = None,
) -> Coupling:
    """The coupling of a record with a partner that is to be created under the id `other`."""
    here = run.source is Side.NAV
    return Coupling(
        id=coupling_id,
        mapping=setting.mapping.name,
        nav_table=setting.mapping.nav_table,
        nav_id=source.id if here else other,
        nav_key=source.key if here else "",
        crm_entity=setting.mapping.crm_entity,
        crm_id=other if here else source.id,
        status=CouplingStatus.RESERVED,
        intent=intent,
    )


def successor(setting: Setting, run: Direction, source: Snapshot, old: Coupling) -> Coupling:
    """The coupling with a new partner that takes the place of an old one.

    Its ids follow from the old coupling, so they need not be saved beforehand: a second attempt chooses the
    same, and the old coupling stands until the new partner exists.
    """
    chosen = uuid5(old.id, f"coupling {old.revision}")
    intent = old.intent if old.replacing else None
    return reservation(setting, run, source, chosen, uuid5(old.id, "partner"), intent)
