"""Posts on the timeline of an account: what NAV tells the people in CRM about a customer (seed-checklist D3-39)."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from app.domain.records import Reference, Snapshot, Value

INVOICES: Final = "sales-invoice-headers"
CUSTOMER, ORDER, DATE = "Sell_to_Customer_No", "Order_No", "Posting_Date"
FIELDS: Final = ("No", CUSTOMER, ORDER, DATE)
"""What has to be read of a posted sales invoice."""

POST: Final = "post"
MANUAL, STATUS = 2, 7  # post.source, post.type


@dataclass(frozen=True, slots=True)
class PostedOrder:
    """A sales order that was posted: the invoice that posting it made."""

    invoice: Snapshot
    order_no: str
    customer_no: str

    @staticmethod
    def of(invoice: Snapshot) -> "PostedOrder | None":
        """None for an invoice that no order led to."""
        order, customer = invoice.values.get(ORDER), invoice.values.get(CUSTOMER)
        return PostedOrder(invoice, str(order), str(customer)) if order and customer else None

    def post_id(self, account_id: UUID) -> UUID:
        """Always the same for an order, which may be invoiced in parts: it is posted about once."""
        return uuid5(account_id, f"{POST}/{self.order_no}")

    def post(self, account_id: UUID) -> dict[str, Value]:
        """The row in CRM."""
        on = self.invoice.values.get(DATE)
        when = f" on {on}" if on else ""
        return {
            "text": f"Sales order {self.order_no} was posted in Dynamics NAV{when} "
            f"as sales invoice {self.invoice.key}.",
            "source": MANUAL,
            "type": STATUS,
            "regardingobjectid": Reference(account_id, "account"),
        }
