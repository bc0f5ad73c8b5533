"""A field of a record as an SQL expression, typed and with NAV's blanks.

The same expression serves to filter by a field and, for fields that are not stored, to read it.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Numeric,
    String,
    Text,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
)

from app.domain.records import FieldDefinition, FieldType
from app.nav.definitions import (
    CURRENCY_FACTOR,
    INTEGRATION_CUSTOMER,
    LOOKUPS,
    PRICED_UNIT,
    PRICES_CURRENCY,
    NavTable,
)
from app.nav.tables import nav_figures, nav_record
from app.nav.values import blank

Expression = ColumnElement[Any]
TEXTS = frozenset({FieldType.TEXT, FieldType.CODE, FieldType.MEMO, FieldType.OPTION, FieldType.TIME})
RATE_DECIMALS = 10  # of a currency factor, as NAV rounds it towards CRM
NUMBERS = frozenset({FieldType.INTEGER, FieldType.BIG_INTEGER, FieldType.DECIMAL, FieldType.MONEY})


def text_of(document: Expression, name: str) -> Expression:
    """The text of one value of a JSON document, NULL if it is not there."""
    return document.op("->>", return_type=Text())(name)


def is_stored(table: NavTable, name: str) -> bool:
    """Whether the field lies in the record itself, or has to be worked out."""
    return name in table.blanks


def expression(table: NavTable, name: str) -> Expression:
    """The value of a field of a record, never NULL unless its type has no blank (dates, GUIDs)."""
    field = table.fields[name]
    if is_stored(table, name):
        return typed(field, text_of(nav_record.c.fields, name))
    if table.name == "contacts" and name == INTEGRATION_CUSTOMER:
        return integration_customer()
    if (table.name, name) == CURRENCY_FACTOR:
        return func.coalesce(func.round(_rate(nav_record.c.company_id, nav_record.c.key), RATE_DECIMALS), 0)
    if (table.name, name) == PRICED_UNIT:
        own = func.nullif(text_of(nav_record.c.fields, "Unit_of_Measure_Code"), "")
        return func.coalesce(own, _looked_up("Item_No", "items", "Base_Unit_of_Measure"))
    if (table.name, name) == PRICES_CURRENCY:
        return _prices_currency()
    if lookup := LOOKUPS.get((table.name, name)):
        return _looked_up(*lookup)
    if name in table.figures:
        return _figure(field)
    return _stamp(field)


def typed(field: FieldDefinition, stored: Expression) -> Expression:
    """The text of a stored value, as a value of the field's type."""
    if field.type in TEXTS:
        return func.coalesce(stored, blank(field))
    if field.type in NUMBERS:
        return func.coalesce(cast(stored, Numeric), 0)
    match field.type:
        case FieldType.BOOLEAN:
            return func.coalesce(cast(stored, Boolean), literal_column("false", Boolean))
        case FieldType.DATE:
            return cast(stored, Date)
        case FieldType.DATETIME:
            return cast(stored, DateTime(timezone=True))
        case _:
            return cast(stored, String)


def integration_customer() -> Expression:
    """The number of the customer that the contact's company is, by its business relation."""
    relation = nav_record.alias("relation")
    return func.coalesce(
        select(text_of(relation.c.fields, "No"))
        .where(
            relation.c.company_id == nav_record.c.company_id,
            # Written out, so that the partial index is used whatever the plan.
            relation.c.nav_table == literal_column("'contact-business-relations'"),
            text_of(relation.c.fields, "Contact_No") == text_of(nav_record.c.fields, "Company_No"),
            text_of(relation.c.fields, "Link_to_Table") == "Customer",
        )
        .order_by(relation.c.key)
        .limit(1)
        .scalar_subquery(),
        "",
    )


def _looked_up(by: str, table: str, name: str) -> Expression:
    other = nav_record.alias("looked_up")
    return func.coalesce(
        select(text_of(other.c.fields, name))
        .where(
            other.c.company_id == nav_record.c.company_id,
            other.c.nav_table == table,
            other.c.key == text_of(nav_record.c.fields, by),
        )
        .scalar_subquery(),
        "",
    )


def _prices_currency() -> Expression:
    """The currency of all prices of a customer price group; where they differ each once, joined by commas."""
    price = nav_record.alias("price")
    code = func.coalesce(text_of(price.c.fields, "Currency_Code"), "")
    return func.coalesce(
        select(func.string_agg(code.distinct(), ","))
        .where(
            price.c.company_id == nav_record.c.company_id,
            # Written out, and compared as the index is sorted, or all prices were read for each group.
            price.c.nav_table == literal_column("'sales-prices'"),
            text_of(price.c.fields, "Sales_Code") == nav_record.c.key.collate("default"),
            text_of(price.c.fields, "Sales_Type") == "Customer Price Group",
        )
        .scalar_subquery(),
        "",
    )


def _rate(company_id: Expression, code: Expression, *, relational: bool = False) -> Expression:
    """Units of a currency per unit of the local one, by the newest rate that holds today; NULL without one.

    A rate may be given in another currency, which then has a rate of its own (NAV follows one such step).
    The key of a rate is the code and the date, so the newest is the last key up to today.
    """
    rate = nav_record.alias("relational_rate" if relational else "rate")
    value = _amount(rate, "Exchange_Rate_Amount") / func.nullif(
        _amount(rate, "Relational_Exch_Rate_Amount"), 0
    )
    if not relational:
        other = text_of(rate.c.fields, "Relational_Currency_Code")
        step = _rate(rate.c.company_id, other, relational=True)
        value = value * case((func.coalesce(other, "") == "", 1), else_=step)
    today = func.to_char(func.timezone("UTC", func.now()), "YYYY-MM-DD")
    return (
        select(value)
        .where(
            rate.c.company_id == company_id,
            rate.c.nav_table == "currency-exchange-rates",
            rate.c.key >= func.concat(code, ","),
            rate.c.key <= func.concat(code, ",", today),
        )
        .order_by(rate.c.key.desc())
        .limit(1)
        .scalar_subquery()
    )


def _amount(record: FromClause, name: str) -> Expression:
    return cast(text_of(record.c.fields, name), Numeric)


def figures_of() -> Expression:
    """All figures of a record as one JSON document, NULL if there are none."""
    return _of_figures(nav_figures.c.figures)


def _figure(field: FieldDefinition) -> Expression:
    return typed(field, _of_figures(text_of(nav_figures.c.figures, field.name)))


def _of_figures(wanted: Expression) -> Expression:
    return (
        select(wanted)
        .where(
            nav_figures.c.company_id == nav_record.c.company_id,
            nav_figures.c.nav_table == nav_record.c.nav_table,
            nav_figures.c.key == nav_record.c.key,
        )
        .scalar_subquery()
    )


def _stamp(field: FieldDefinition) -> Expression:
    moment = func.timezone("UTC", nav_record.c.modified_at)
    match field.type:
        case FieldType.DATE:
            return cast(moment, Date)
        case FieldType.TIME:
            return func.to_char(moment, literal("HH24:MI:SS.MS"))
        case _:
            return nav_record.c.modified_at
