"""What a write that was sent was about, and what that tells when its answer was never remembered.

Without it, a write that got through before a crash would look like somebody's change: an edit made to the same
field afterwards would be called a conflict, and one that puts the old value back would be lost.
"""

from collections.abc import Collection
from dataclasses import replace

from app.domain import conversion
from app.domain.cell import Shape
from app.domain.coupling import Base, Coupling, CouplingStatus, Intent
from app.domain.mapping import Direction
from app.domain.records import Side, Values


def intended(
    shape: Shape, run: Direction, source: Values, wanted: Values, written: Collection[str]
) -> Intent | None:
    """The intent to write these fields of the destination; None where nobody could take it for a change.

    Only two-way fields are kept: of the others the source wins whatever the destination shows.
    """
    ours, theirs = {}, {}
    for origin, target in shape.two_way(run):
        if target in written and target in wanted:
            ours[origin], theirs[target] = source.get(origin), wanted[target]
    if not ours:
        return None
    nav, crm = (ours, theirs) if run is Direction.TO_CRM else (theirs, ours)
    return Intent(run.destination, nav, crm)


def settled(shape: Shape, coupling: Coupling, shown: Values | None) -> Coupling:
    """The coupling without its intent, its base being what the intent turns out to have achieved.

    `shown` is the record on the side that was written, None when it is not there. A record that was to be created
    and is there was created by us: all of the intent holds. Of a modified one, each field that shows what was
    intended was written; somebody who meanwhile wrote the same meant the same. No version is known then.
    """
    intent = coupling.intent
    if intent is None or shown is None:
        return replace(coupling, intent=None)
    base, created = coupling.base or Base(), coupling.status is CouplingStatus.RESERVED
    nav, crm = dict(base.nav), dict(base.crm)
    fields = shape.definition(intent.side).fields
    for nav_name, crm_name in shape.two_way(Direction.TO_CRM):
        name = nav_name if intent.side is Side.NAV else crm_name
        if nav_name not in intent.nav or crm_name not in intent.crm or name not in fields:
            continue
        if created or conversion.equal(shown.get(name), intent.on(intent.side)[name], fields[name]):
            nav[nav_name], crm[crm_name] = intent.nav[nav_name], intent.crm[crm_name]
    return replace(coupling, intent=None, base=Base(nav, crm))
