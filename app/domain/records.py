"""A record as one side showed it, and what one side says can be in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.domain.errors import IntegrationError


class Side(StrEnum):
    """The two systems that are kept in step."""

    NAV = "nav"
    CRM = "crm"


@dataclass(frozen=True, slots=True)
class Reference:
    """The value of a CRM lookup: the id it points to and, where it is known, the entity.

    A tracked query does not say which entity a polymorphic lookup points to, so `entity` may be
    missing and takes no part in comparisons.
    """

    id: UUID
    entity: str | None = field(default=None, compare=False)


Value = str | int | Decimal | bool | date | datetime | UUID | Reference | None
Values = Mapping[str, Value]


@dataclass(slots=True)
class Snapshot:
    """A record as one side showed it at one moment. Nobody changes it: like everything that is made for each record of
    a run it is not frozen, because that would make it three times as dear.

    `id` is the integration id on the NAV side and the primary key in CRM. `key` is what a person
    calls the record: its primary key in NAV (parts joined by a comma), the id again in CRM.
    `version` changes whenever the record does: the NAV row version, the CRM etag.
    `unreadable` is set when the side gave a value that does not fit its field: that value is missing in
    `values`, and the record cannot be transferred until it is corrected.
    """

    id: UUID
    key: str
    version: str
    values: Values
    modified_at: datetime | None = None
    unreadable: IntegrationError | None = None

    def readable(self) -> "Snapshot":
        """The record itself. Raises what is wrong with a value of it."""
        if self.unreadable is not None:
            raise self.unreadable
        return self


def is_older(version: str, other: str | None) -> bool:
    """Whether a version of a record looks older than another of the same. NAV counts its versions, and so does CRM,
    which does not promise it: take it for a reason to look again, nothing more (dataverse-web-api 6)."""
    if not version or not other or version == other:
        return False
    ours, theirs = version.strip('W/"'), other.strip('W/"')
    return ours.isdecimal() and theirs.isdecimal() and int(ours) < int(theirs)


class FieldType(StrEnum):
    """What a field can hold; the same words for both sides."""

    TEXT = "text"
    CODE = "code"  # NAV: trimmed and upper-cased text
    MEMO = "memo"
    INTEGER = "integer"
    BIG_INTEGER = "big_integer"
    DECIMAL = "decimal"
    MONEY = "money"
    BOOLEAN = "boolean"
    OPTION = "option"  # by name in NAV, by number in CRM
    DATE = "date"
    TIME = "time"
    DATETIME = "datetime"
    GUID = "guid"
    LOOKUP = "lookup"  # CRM: a Reference
    ENTITY_NAME = "entity_name"  # CRM: the type half of a polymorphic lookup


TEXTS: Final = frozenset({FieldType.TEXT, FieldType.CODE, FieldType.MEMO})
WHOLE: Final = frozenset({FieldType.INTEGER, FieldType.BIG_INTEGER})
BROKEN: Final = frozenset({FieldType.DECIMAL, FieldType.MONEY})
TIMES: Final = frozenset({FieldType.DATE, FieldType.DATETIME})


@dataclass(frozen=True, slots=True)
class Option:
    """One member of an option field."""

    value: int
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class FieldDefinition:
    """One field of a NAV table (OData name) or one attribute of a CRM entity (logical name)."""

    name: str
    label: str
    type: FieldType
    length: int | None = None
    options: tuple[Option, ...] = ()
    relation: tuple[str, ...] = ()  # NAV: the table it refers to; CRM: the entities a lookup may point to
    key: bool = False
    required: bool = False
    computed: bool = False  # never stored: cannot be written, cannot be trusted to change the version
    insertable: bool = True
    updatable: bool = True
    number: int | None = None  # NAV field number
    precision: int | None = None  # decimals that the side keeps
    minimum: Decimal | None = None
    maximum: Decimal | None = None


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A NAV table (`customers`, the word in our URLs) or a CRM entity (`account`, its logical name)."""

    name: str
    label: str
    fields: Mapping[str, FieldDefinition]
    primary_key: tuple[str, ...]
    name_field: str | None = None
    number: int | None = None  # NAV table number
    entity_set: str | None = None  # CRM: the word in URLs, `accounts`
    tracks_changes: bool = False
