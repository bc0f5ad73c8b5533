"""Account statistics: what NAV knows of a customer's money, as CRM keeps it with the account (nav-behaviour 15)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from app.domain import conversion
from app.domain.records import FieldDefinition, Reference, Value, Values

ENTITY: Final = "nav_accountstatistics"
LINK: Final = "nav_accountstatisticsid"
"""The lookup of an account that points to its statistics."""

NUMBER: Final = "nav_customerno"
NAME: Final = "nav_name"
TOTAL: Final = "nav_totallcy"
AS_OF: Final = "nav_overdueamountsasof"
CURRENCY: Final = "transactioncurrencyid"

FIGURES: Final[Mapping[str, str]] = {
    "nav_balancelcy": "Balance_LCY",
    "nav_outstandingorderslcy": "Outstanding_Orders_LCY",
    "nav_shippednotinvoicedlcy": "Shipped_Not_Invoiced_LCY",
    "nav_outstandinginvoiceslcy": "Outstanding_Invoices_LCY",
    "nav_outstandingserviceorderslcy": "Outstanding_Serv_Orders_LCY",
    "nav_servshippednotinvoicedlcy": "Serv_Shipped_Not_Invoiced_LCY",
    "nav_outstandingservinvoiceslcy": "Outstanding_ServInvoices_LCY",
    "nav_creditlimitlcy": "Credit_Limit_LCY",
    "nav_overdueamountslcy": "Balance_Due_LCY",
    "nav_totalsaleslcy": "Sales_LCY",
    "nav_invoicedprepaymentamountlcy": "Invoiced_Prepayment_Amount_LCY",
}
"""By attribute, the figure of the customer. A figure that NAV does not keep counts as zero."""

ADDED: Final = (
    "nav_balancelcy",
    "nav_outstandingorderslcy",
    "nav_shippednotinvoicedlcy",
    "nav_outstandinginvoiceslcy",
    "nav_outstandingserviceorderslcy",
    "nav_servshippednotinvoicedlcy",
    "nav_outstandingservinvoiceslcy",
)
DEDUCTED: Final = ("nav_invoicedprepaymentamountlcy",)

READ: Final = (NUMBER, *FIGURES, TOTAL, AS_OF, CURRENCY)
"""What has to be read of a statistics row to tell whether it is up to date."""


def statistics_id(account_id: UUID) -> UUID:
    """The id of an account's new statistics row: always the same, so that trying twice makes one row."""
    return uuid5(account_id, ENTITY)


def statistics(customer_no: str, figures: Values, as_of: datetime, currency: UUID) -> dict[str, Value]:
    """The statistics row of a customer. Amounts are in the local currency, which `currency` is in CRM."""
    amounts = {attribute: _amount(figures.get(figure)) for attribute, figure in FIGURES.items()}
    total = sum((amounts[name] for name in ADDED), Decimal(0)) - sum(amounts[name] for name in DEDUCTED)
    return {
        NUMBER: customer_no,
        **amounts,
        TOTAL: total,
        AS_OF: as_of.replace(hour=0, minute=0, second=0, microsecond=0),
        CURRENCY: Reference(currency, "transactioncurrency"),
    }


def _amount(figure: Value) -> Decimal:
    return Decimal(figure) if isinstance(figure, int | Decimal) else Decimal(0)


def changes(wanted: Values, shown: Values, fields: Mapping[str, FieldDefinition]) -> dict[str, Value]:
    """What has to be written so that the row shows what is wanted; the day alone is no change."""
    differing = {
        name: value
        for name, value in wanted.items()
        if name in fields and not conversion.equal(value, shown.get(name), fields[name])
    }
    return differing if differing.keys() - {AS_OF} else {}
