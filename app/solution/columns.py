"""Columns of the two tables, and their XML."""

from dataclasses import dataclass
from enum import StrEnum
from xml.etree.ElementTree import Element

from app.solution.names import INTRODUCED, LANGUAGE, PREFIX
from app.solution.xml import labels, node, values


class Kind(StrEnum):
    """What a column holds, as customizations.xml calls it."""

    KEY = "primarykey"
    TEXT = "nvarchar"
    MONEY = "money"
    DECIMAL = "decimal"
    DATE_TIME = "datetime"
    LOOKUP = "lookup"
    STATE = "state"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `name` is logical and schema name in one: both are lower case."""

    name: str
    label: str
    kind: Kind = Kind.TEXT
    length: int = 0
    format: str = "text"
    required: bool = False
    primary_name: bool = False

    @property
    def custom(self) -> bool:
        """Whether the column is ours; the others exist in every table."""
        return self.name.startswith(f"{PREFIX}_") and self.kind is not Kind.KEY


_IN_FORMS = "ValidForAdvancedFind|ValidForForm|ValidForGrid"
_IME = {Kind.DATE_TIME: "inactive", Kind.MONEY: "disabled", Kind.DECIMAL: "disabled"}


def column_xml(table: str, column: Column) -> Element:
    """The column of the table, its children in the order of an export."""
    is_key = column.kind is Kind.KEY
    written_by_server = column.kind is Kind.DECIMAL
    common = values(
        Type=column.kind,
        Name=column.name,
        LogicalName=column.name,
        RequiredLevel=_required(column),
        DisplayMask=_mask(column),
        ImeMode=_IME.get(column.kind, "auto"),
        ValidForUpdateApi=int(not (is_key or written_by_server)),
        ValidForReadApi=1,
        ValidForCreateApi=int(not (column.kind is Kind.STATE or written_by_server)),
        IsCustomField=int(column.custom),
        IsAuditEnabled=0,
        IsSecured=0,
        IntroducedVersion=INTRODUCED,
        IsCustomizable=1,
        IsRenameable=1,
        CanModifySearchSettings=1,
        CanModifyRequirementLevelSettings=int(column.custom),
        CanModifyAdditionalSettings=1,
        SourceType=0,
        IsGlobalFilterEnabled=0,
        IsSortableEnabled=0,
        CanModifyGlobalFilterSettings=1,
        CanModifyIsSortableSettings=1,
        IsDataSourceSecret=0,
        AutoNumberFormat="",
        IsSearchable=int(column.primary_name),
        IsFilterable=0,
        IsRetrievable=1,
        IsLocalizable=0,
    )
    return node(
        "attribute",
        [
            *common,
            *_own(table, column),
            labels("displaynames", "displayname", column.label),
            labels("Descriptions", "Description", ""),
        ],
        attributes={"PhysicalName": column.name},
    )


def _required(column: Column) -> str:
    if column.kind in (Kind.KEY, Kind.STATE):
        return "systemrequired"
    return "required" if column.required else "none"


def _mask(column: Column) -> str:
    if column.kind is Kind.KEY:
        return "ValidForAdvancedFind|RequiredForGrid"
    return f"PrimaryName|{_IN_FORMS}|RequiredForForm" if column.primary_name else _IN_FORMS


def _own(table: str, column: Column) -> list[Element]:
    """The children that only this kind of column has."""
    match column.kind:
        case Kind.KEY:
            return []
        case Kind.TEXT:
            # Dataverse counts the length in bytes of UTF-16.
            return values(Format=column.format, MaxLength=column.length, Length=2 * column.length)
        case Kind.MONEY:
            precision_of_currency = 2
            return values(
                MinValue=-922337203685477,
                MaxValue=922337203685477,
                Accuracy=2,
                AccuracySource=precision_of_currency,
            )
        case Kind.DECIMAL:
            return values(MinValue="1E-10", MaxValue="100000000000", Accuracy=12)
        case Kind.DATE_TIME:
            user_local = 1
            return values(Format="datetime", CanChangeDateTimeBehavior=1, Behavior=user_local)
        case Kind.LOOKUP:
            return values(LookupStyle="single", LookupTypes="")
        case Kind.STATE:
            return [_states(table)]
        case Kind.STATUS:
            return [_statuses(table)]


def _option_set(table: str, kind: Kind, options: Element) -> Element:
    return node(
        "optionset",
        [
            *values(OptionSetType=kind, IntroducedVersion=INTRODUCED, IsCustomizable=1),
            labels("displaynames", "displayname", "Status" if kind is Kind.STATE else "Status Reason"),
            labels("Descriptions", "Description", ""),
            options,
        ],
        attributes={"Name": f"{table}_{kind}code"},
    )


def _states(table: str) -> Element:
    options = [
        node(
            "state",
            [_option_label(name)],
            attributes={"value": str(value), "defaultstatus": str(status), "invariantname": name},
        )
        for value, status, name in ((0, 1, "Active"), (1, 2, "Inactive"))
    ]
    return _option_set(table, Kind.STATE, node("states", options))


def _statuses(table: str) -> Element:
    options = [
        node("status", [_option_label(name)], attributes={"value": str(value), "state": str(state)})
        for value, state, name in ((1, 0, "Active"), (2, 1, "Inactive"))
    ]
    return _option_set(table, Kind.STATUS, node("statuses", options))


def _option_label(text: str) -> Element:
    return node("labels", [node("label", attributes={"description": text, "languagecode": str(LANGUAGE)})])
