"""What sales works on with a customer: open opportunities, active quotes, active cases (nav-behaviour 16.3)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.domain import links
from app.domain.company import Company
from app.domain.records import Snapshot, Values
from app.ports import Context
from app.use_cases.subject import subject

CUSTOMERS = "customers"


@dataclass(frozen=True, slots=True)
class Kind:
    """Rows of one entity that belong to an account; `filter` is an OData filter with the account's id in it."""

    entity: str
    filter: str
    name: str
    fields: tuple[str, ...]

    def of(self, account_id: UUID) -> str:
        """The filter for one account."""
        return self.filter.format(account=account_id)


KINDS: Final = {
    "opportunities": Kind(
        "opportunity",
        "statecode eq 0 and (parentaccountid eq {account} or customerid eq {account})",
        "name",
        ("name", "estimatedvalue", "estimatedclosedate", "statuscode"),
    ),
    "quotes": Kind(
        "quote",
        "statecode eq 1 and customerid eq {account}",
        "name",
        ("name", "quotenumber", "totalamount", "statuscode"),
    ),
    "cases": Kind(
        "incident",
        "statecode eq 0 and customerid eq {account}",
        "title",
        ("title", "ticketnumber", "prioritycode", "statuscode"),
    ),
}
"""By the word in our URLs."""


@dataclass(frozen=True, slots=True)
class CrmStatistics:
    """How many there are of each kind, counted by CRM at that moment."""

    counts: dict[str, int]
    as_of: datetime


@dataclass(frozen=True, slots=True)
class RelatedRow:
    """One row of CRM that belongs to the customer's account."""

    id: UUID
    name: str
    fields: Values
    url: str


async def crm_statistics(ctx: Context, company: Company, customer_no: str) -> CrmStatistics:
    """The Dynamics CRM Statistics FactBox of a customer, in one request to CRM.

    Raises NotCoupled, ConnectionDisabled, and what CRM says.
    """
    about = await subject(ctx, company, CUSTOMERS, customer_no, make_id=False)
    account = about.coupled.crm_id
    counted = await about.setting.crm.counts([(kind.entity, kind.of(account)) for kind in KINDS.values()])
    return CrmStatistics(dict(zip(KINDS, counted, strict=True)), ctx.clock.now())


async def related_rows(
    ctx: Context, company: Company, customer_no: str, kind: str, *, limit: int, cursor: str | None
) -> tuple[list[RelatedRow], str | None]:
    """A page of the rows that `crm_statistics` counts, in the order of their ids, and the next cursor.

    Args:
        kind: a key of KINDS.
    Raises:
        NotCoupled, ConnectionDisabled, and what CRM says.
    """
    about = await subject(ctx, company, CUSTOMERS, customer_no, make_id=False)
    which, setting = KINDS[kind], about.setting
    found = await setting.crm.listing(
        which.entity, which.fields, filter=which.of(about.coupled.crm_id), limit=limit, cursor=cursor
    )

    def row(record: Snapshot) -> RelatedRow:
        url = links.crm_url(setting.connection, which.entity, record.id)
        return RelatedRow(record.id, str(record.values.get(which.name) or ""), record.values, url)

    return [row(record) for record in found.records], found.cursor
