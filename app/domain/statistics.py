"""Account statistics: what NAV knows of a customer's money, as CRM keeps it with the account (nav-behaviour 15)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid5

from app.domain import conversion, solution
from app.domain.records import FieldDefinition, Reference, Value, Values

FIGURES: Final[Mapping[str, str]] = {
    "balancelcy": "Balance_LCY",
    "outstandingorderslcy": "Outstanding_Orders_LCY",
    "shippednotinvoicedlcy": "Shipped_Not_Invoiced_LCY",
    "outstandinginvoiceslcy": "Outstanding_Invoices_LCY",
    "outstandingserviceorderslcy": "Outstanding_Serv_Orders_LCY",
    "servshippednotinvoicedlcy": "Serv_Shipped_Not_Invoiced_LCY",
    "outstandingservinvoiceslcy": "Outstanding_ServInvoices_LCY",
    "creditlimitlcy": "Credit_Limit_LCY",
    "overdueamountslcy": "Balance_Due_LCY",
    "totalsaleslcy": "Sales_LCY",
    "invoicedprepaymentamountlcy": "Invoiced_Prepayment_Amount_LCY",
}
"""By attribute, without its prefix, the figure of the customer. A figure that NAV does not keep counts as zero."""

ADDED: Final = (
    "balancelcy",
    "outstandingorderslcy",
    "shippednotinvoicedlcy",
    "outstandinginvoiceslcy",
    "outstandingserviceorderslcy",
    "servshippednotinvoicedlcy",
    "outstandingservinvoiceslcy",
)
DEDUCTED: Final = (
    "Outstanding_Invoices_from_Shipment_LCY",  # counted as shipped already
    "Invoiced_Prepayment_Amount_LCY",
    "Returns_Received_Not_Invoiced_LCY",
)
"""The figures that the total goes without."""
CURRENCY: Final = "transactioncurrencyid"


@dataclass(frozen=True, slots=True)
class StatisticsTable:
    """The statistics table of an integration solution; `prefix` begins every name in it."""

    prefix: str

    def named(self, suffix: str) -> str:
        """A name as CRM knows it."""
        return f"{self.prefix}_{suffix}"

    @property
    def entity(self) -> str:
        """Its logical name."""
        return self.named(solution.STATISTICS)

    @property
    def link(self) -> str:
        """The lookup of an account that points to its statistics."""
        return f"{self.entity}id"

    @property
    def name(self) -> str:
        """The attribute by which people know a row."""
        return self.named("name")

    @property
    def as_of(self) -> str:
        """The attribute that holds the day of the figures."""
        return self.named("overdueamountsasof")

    @property
    def read(self) -> tuple[str, ...]:
        """What has to be read of a row to tell whether it is up to date."""
        suffixes = ("customerno", *FIGURES, "totallcy", "overdueamountsasof")
        return (*(self.named(suffix) for suffix in suffixes), CURRENCY)

    def row_id(self, account_id: UUID) -> UUID:
        """The id of an account's new row: always the same, so that trying twice makes one row."""
        return uuid5(account_id, self.entity)

    def row(self, customer_no: str, figures: Values, as_of: datetime, currency: UUID) -> dict[str, Value]:
        """The row of a customer. Amounts are in the local currency, which `currency` is in CRM."""
        amounts = {attribute: _amount(figures.get(figure)) for attribute, figure in FIGURES.items()}
        added = sum((amounts[name] for name in ADDED), Decimal(0))
        deducted = sum((_amount(figures.get(figure)) for figure in DEDUCTED), Decimal(0))
        return {
            self.named("customerno"): customer_no,
            **{self.named(attribute): amount for attribute, amount in amounts.items()},
            self.named("totallcy"): added - deducted,
            self.as_of: as_of.replace(hour=0, minute=0, second=0, microsecond=0),
            CURRENCY: Reference(currency, "transactioncurrency"),
        }

    def changes(
        self, wanted: Values, shown: Values, fields: Mapping[str, FieldDefinition]
    ) -> dict[str, Value]:
        """What has to be written so that the row shows what is wanted; the day alone is no change."""
        differing = {
            name: value
            for name, value in wanted.items()
            if name in fields and not conversion.equal(value, shown.get(name), fields[name])
        }
        return differing if differing.keys() - {self.as_of} else {}


def _amount(figure: Value) -> Decimal:
    return Decimal(figure) if isinstance(figure, int | Decimal) else Decimal(0)
