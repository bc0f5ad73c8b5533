"""A coupling as a row: each column once, with its type and the way there and back."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import Row, Text, cast

from app.db import values
from app.db.tables import coupling
from app.db.values import clean
from app.domain.coupling import Base, Coupling, CouplingStatus, Failure, Intent, SynchAction, SynchResult
from app.domain.records import Side

_PAIR = {
    "id": "uuid",
    "nav_table": "text",
    "nav_id": "uuid",
    "crm_entity": "text",
    "crm_id": "uuid",
}
"""Which records are coupled: that stays as long as there is the coupling."""
_STATE = {
    "mapping": "text",
    "nav_key": "text",
    "status": "text",
    "base": "json",
    "edition": "integer",
    "nav_version": "text",
    "crm_version": "text",
    "last_synch_at": "timestamptz",
    "last_synch_action": "text",
    "last_synch_result": "text",
    "last_error": "jsonb",
    "last_job_id": "uuid",
    "skipped": "boolean",
    "intent": "json",
    "replacing": "boolean",
}
_COLUMNS = _PAIR | _STATE


def _typed(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


COLUMNS = ", ".join(_COLUMNS)
TYPES = _typed(_COLUMNS)
SAVED = f"id uuid, revision integer, {_typed(_STATE)}"
ASSIGNMENTS = ", ".join(f"{name} = given.{name}" for name in _STATE)

_UNREAD = ("base", "intent")
SELECTED = [
    cast(column, Text).label(column.name) if column.name in _UNREAD else column for column in coupling.c
]
"""What to select of a coupling."""
HELD = ", ".join(
    f"CAST(held.{column.name} AS text) AS {column.name}" if column.name in _UNREAD else f"held.{column.name}"
    for column in coupling.c
)
"""The same in a statement that calls the table `held`."""

# Looked up, because calling an enumeration takes ten times as long.
_STATUS = {status.value: status for status in CouplingStatus}
_ACTION: Mapping[str | None, SynchAction | None] = {None: None} | {each.value: each for each in SynchAction}
_RESULT: Mapping[str | None, SynchResult | None] = {None: None} | {each.value: each for each in SynchResult}


def plain(word: str | None) -> str | None:
    """The word of an enumeration as plain text: JSON is made of that several times as fast."""
    return None if word is None else str(word)


def plain_id(one: UUID | None) -> UUID | str | None:
    """The id as JSON is soonest made of: the database's driver has a kind of its own, which takes ten times as long."""
    return one if one is None or type(one) is UUID else str(one)


def encode(one: Coupling) -> dict[str, Any]:
    """The coupling as JSON for `json_to_recordset`, without its revision."""
    return {
        "id": plain_id(one.id),
        "nav_table": one.nav_table,
        "nav_id": plain_id(one.nav_id),
        "crm_entity": one.crm_entity,
        "crm_id": plain_id(one.crm_id),
        **_state(one),
    }


def encode_saved(one: Coupling) -> dict[str, Any]:
    """What can change of a coupling as JSON, with the revision that it had when it was read."""
    return {"id": plain_id(one.id), "revision": one.revision, **_state(one)}


def _state(one: Coupling) -> dict[str, Any]:
    base = one.base
    return {
        "mapping": one.mapping,
        "nav_key": one.nav_key,
        "status": str(one.status),
        "base": None if base is None else {"nav": values.encode(base.nav), "crm": values.encode(base.crm)},
        "edition": one.edition,
        "nav_version": None if base is None else base.nav_version,
        "crm_version": None if base is None else base.crm_version,
        "last_synch_at": one.last_synch_at,
        "last_synch_action": plain(one.last_synch_action),
        "last_synch_result": plain(one.last_synch_result),
        "last_error": encode_failure(one.last_error),
        "last_job_id": plain_id(one.last_job_id),
        "skipped": one.skipped,
        "intent": encode_intent(one.intent),
        "replacing": one.replacing,
    }


def decode(row: Row[Any]) -> Coupling:
    """The coupling out of its row of `SELECTED`. Its base is parsed when somebody looks at it."""
    return Coupling(
        id=row.id,
        mapping=row.mapping,
        nav_table=row.nav_table,
        nav_id=row.nav_id,
        nav_key=row.nav_key,
        crm_entity=row.crm_entity,
        crm_id=row.crm_id,
        status=_STATUS[row.status],
        base=_base(row),
        edition=row.edition,
        last_synch_at=row.last_synch_at,
        last_synch_action=_ACTION[row.last_synch_action],
        last_synch_result=_RESULT[row.last_synch_result],
        last_error=decode_failure(row.last_error),
        last_job_id=row.last_job_id,
        skipped=row.skipped,
        intent=_intent(row.intent),
        replacing=row.replacing,
        revision=row.revision,
    )


def encode_intent(intent: Intent | None) -> dict[str, Any] | None:
    """An intent as JSON."""
    if intent is None:
        return None
    return {"side": str(intent.side), "nav": values.encode(intent.nav), "crm": values.encode(intent.crm)}


def encode_failure(failure: Failure | None) -> dict[str, Any] | None:
    """A failure as JSON; its texts may come from another system."""
    if failure is None:
        return None
    return {
        "code": failure.code,
        "message": clean(failure.message),
        "fix": clean(failure.fix),
        "retryable": failure.retryable,
    }


def decode_failure(stored: Mapping[str, Any] | None) -> Failure | None:
    """The failure out of JSON."""
    return None if stored is None else Failure(**stored)


def _intent(stored: str | None) -> Intent | None:
    if stored is None:
        return None
    parts = from_json(stored)
    return Intent(Side(parts["side"]), values.decode(parts["nav"]), values.decode(parts["crm"]))


class _Stored(Base):
    """A base whose values nobody has looked at yet: mostly nobody does."""

    __slots__ = ("_text",)
    _text: str

    def __getattr__(self, name: str) -> Any:
        """Parses the values when the first of them is asked for."""
        if name not in ("nav", "crm"):
            raise AttributeError(name)
        parts = from_json(self._text)
        self.nav, self.crm = values.decode(parts["nav"]), values.decode(parts["crm"])
        return self.nav if name == "nav" else self.crm


def _base(row: Row[Any]) -> Base | None:
    if row.base is None:
        return None
    base = _Stored.__new__(_Stored)
    base._text, base.nav_version, base.crm_version = row.base, row.nav_version, row.crm_version
    return base
