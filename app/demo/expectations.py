"""What the full synchronization of CRONUS must come to, told from the data alone."""

from collections.abc import Mapping

from app.demo import cronus
from app.demo.dataverse import Crm
from app.demo.jobs import Job
from app.demo.service import Company, nav_path
from app.demo.trouble import require

NOT_COUPLED = "salesperson-not-coupled"
CONFLICT = "update-conflict"


def check(company: Company, crm: Crm, jobs: Mapping[str, Job]) -> None:
    """Raises DemoFailed as soon as a count, a failure or either side is not what the data implies."""
    _currencies(company, crm, jobs["CURRENCY"])
    _direction(
        jobs["SALESPEOPLE"], "from_crm",
        inserted=0, modified=cronus.changed_users(), failed=0, total=len(cronus.users()),
    )  # fmt: skip
    _customers(company, crm, jobs["CUSTOMER"])
    _contacts(company, jobs["CONTACT"])


def _currencies(company: Company, crm: Crm, job: Job) -> None:
    currencies = cronus.cronus()["Currency"]
    created = len(currencies) - len(cronus.crm_rows().rows["transactioncurrencies"])
    _direction(job, "to_crm", inserted=created, failed=0, total=len(currencies))
    code = next(iter(cronus.OTHER_RATES))
    row = crm.read("transactioncurrencies", company.get(f"{nav_path('currencies', code)}/coupling")["crm_id"])
    bought = round(100 / cronus.OTHER_RATES[code], 6)
    require(f"what a pound buys of {code} in CRM", round(float(row["exchangerate"]), 6), bought)


def _customers(company: Company, crm: Crm, job: Job) -> None:
    customers = len(cronus.cronus()["Customer"])
    stuck, clashing = cronus.customers_without_user(), set(cronus.CLASHING)
    created = customers - len(cronus.known_customers()) - len(stuck)
    own = len(cronus.OWN_ACCOUNTS)
    _direction(job, "to_crm", inserted=created, failed=len(stuck) + len(clashing), total=customers)
    _direction(job, "from_crm", inserted=own, failed=len(clashing))
    expected = {(no, NOT_COUPLED) for no in stuck} | {(no, CONFLICT) for no in clashing}
    require("the customers that failed", _failed(company, job), expected)
    require("customers in NAV", len(company.items("nav/customers")), customers + own)
    condition = f"customertypecode eq {cronus.CUSTOMER_TYPE}"
    require("accounts of customers in CRM", crm.count("accounts", condition), customers - len(stuck) + own)
    require(
        "coupled customers", len(company.items("couplings", mapping="CUSTOMER")), customers - len(stuck) + own
    )


def _contacts(company: Company, job: Job) -> None:
    persons = cronus.persons()
    stuck = cronus.persons_without_user()
    outside = cronus.persons_outside()
    created = len(persons) - len(cronus.known_contacts()) - len(stuck) - len(outside)
    own = len(cronus.OWN_CONTACTS)
    _direction(job, "to_crm", inserted=created, failed=len(stuck), skipped=len(outside), total=len(persons))
    _direction(job, "from_crm", inserted=own, failed=0)
    require("the contacts that failed", _failed(company, job), {(no, NOT_COUPLED) for no in stuck})
    coupled = len(company.items("couplings", mapping="CONTACT"))
    require("coupled contacts", coupled, created + len(cronus.known_contacts()) + own)


def _failed(company: Company, job: Job) -> set[tuple[str, str]]:
    errors = company.items(f"synch-jobs/{job['id']}/errors")
    return {(error["nav_no"], error["code"]) for error in errors}


def _direction(job: Job, direction: str, **expected: int) -> None:
    counts = job["directions"][direction]
    for name, number in expected.items():
        require(f"{job['mapping']} {direction}, {name}", counts[name], number)
