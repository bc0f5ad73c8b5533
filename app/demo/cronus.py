"""The CRONUS company: its NAV records, and what its CRM shall hold at the beginning of the story."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from app.demo.dataverse import Row, row_id

Record = Mapping[str, Any]

NAV_TABLES: Mapping[str, str] = {
    "countries": "Country/Region",
    "languages": "Language",
    "territories": "Territory",
    "salutations": "Salutation",
    "payment-terms": "Payment Terms",
    "shipment-methods": "Shipment Method",
    "payment-methods": "Payment Method",
    "units-of-measure": "Unit of Measure",
    "currencies": "Currency",
    "salespeople": "Salesperson/Purchaser",
    "contacts": "Contact",
    "customers": "Customer",
    "contact-business-relations": "Contact Business Relation",
    "items": "Item",
    "opportunities": "Opportunity",
}
"""The tables in an order in which every record finds those it refers to."""

CUSTOMER_TYPE = 3
"""account.customertypecode: the relationship type Customer."""
NO_USERS = ("EXT1", "LEFT", "DUP1", "NOEMAIL")
"""Salespeople without a CRM user of their own: an outside agency, one who left, a double, one without e-mail."""
CLASHING = ("10000", "44180220")
"""Customers whose account shows another phone number: which side is right, nobody but a person can say."""
SHOWCASE = "10000"
"""The customer the story looks at closely: its account has opportunities, quotes and cases."""


@cache
def cronus() -> Mapping[str, list[Record]]:
    """The company's records as NAV 2018 shows them, by the name of their table."""
    found: dict[str, list[Record]] = json.loads(
        files("app.demo").joinpath("data/cronus.json").read_text(encoding="utf-8")
    )
    return found


def nav_records(table: str, definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of a NAV table as the service takes them, given what it says of the table.

    Fields that NAV fills by itself, or that this generation of NAV does not have, are left out.
    """
    names = {field["label"]: field["name"] for field in definition["fields"] if field["insertable"]}
    key = definition["primary_key"]
    records = []
    for record in cronus()[NAV_TABLES[table]]:
        fields = {names[label]: _value(value) for label, value in record.items() if label in names}
        records.append({"no": ",".join(str(fields[part]) for part in key), "fields": fields})
    return records


def customer_figures(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What NAV's ledgers say of each customer; a company that is kept by the service has no ledgers of its own."""
    names = {field["label"]: field["name"] for field in definition["fields"]}
    return [
        {"no": record["No."], "fields": {names[label]: v for label, v in record.items() if label != "No."}}
        for record in cronus()["Customer Statistics"]
    ]


def balance_of(customer: str) -> float:
    """A customer's balance in pounds."""
    return next(float(s["Balance (LCY)"]) for s in cronus()["Customer Statistics"] if s["No."] == customer)


def exchange_rates() -> list[dict[str, Any]]:
    """What 100 units of each foreign currency are worth in pounds."""
    return [
        {
            "no": f"{currency['Code']},2018-01-01",
            "fields": {
                "Currency_Code": currency["Code"],
                "Starting_Date": "2018-01-01",
                "Exchange_Rate_Amount": 100,
                "Relational_Exch_Rate_Amount": rate_of(currency),
            },
        }
        for currency in cronus()["Currency"]
    ]


def _value(value: Any) -> Any:
    return "" if value == " " else value  # a blank option


# --- CRM ----------------------------------------------------------------------------------------------


# What a pound buys is not told of every currency in the company's records; rounded figures for the others.
OTHER_RATES = {
    "AED": 18.5, "BGN": 44.0, "BND": 50.3, "BRL": 13.5, "CNY": 9.4, "DZD": 0.5, "FJD": 30.2, "HKD": 8.7, "HRK": 11.6,
    "IDR": 0.0043, "INR": 0.81, "KES": 0.53, "MAD": 6.7, "MXN": 3.7, "MYR": 14.3, "NZD": 41.5, "PHP": 1.16, "RON": 17.4,
    "SAR": 18.1, "SGD": 50.4, "THB": 1.9, "TND": 21.8, "TRY": 1.9, "UGX": 0.018, "ZAR": 4.8,
}  # fmt: skip


def rate_of(currency: Record) -> float:
    """What 100 units of a currency are worth in pounds."""
    return float(currency.get("Exch. Rate per 100 (LCY)") or OTHER_RATES[str(currency["Code"])])


@dataclass(frozen=True, slots=True)
class CrmRows:
    """The rows that CRM holds before anything is synchronized, by entity set, in an order to create them."""

    rows: Mapping[str, Sequence[Row]]

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(len(rows) for rows in self.rows.values())


def crm_rows() -> CrmRows:
    """CRM knows most salespeople, about half of the customers, some contacts, and a few of each on its own."""
    accounts, contacts = _accounts(), _contacts()
    return CrmRows(
        {
            "transactioncurrencies": _currencies(),
            "systemusers": _users(),
            "accounts": [*accounts, *_own_accounts()],
            "contacts": [*contacts, *_own_contacts()],
            **_sales(),
        }
    )


def users() -> set[str]:
    """The codes of the salespeople that are CRM users."""
    return {str(s["Code"]) for s in cronus()["Salesperson/Purchaser"] if s["Code"] not in NO_USERS}


def _currencies() -> list[Row]:
    """CRM has the currencies that are much used; a currency's rate there says how much of it a pound buys."""
    return [
        {
            "transactioncurrencyid": row_id("transactioncurrencies", str(currency["Code"])),
            "isocurrencycode": currency["ISO Code"],
            "currencyname": currency["Description"],
            "currencysymbol": currency["Symbol"],
            "currencyprecision": 2,
            "exchangerate": round(100 / rate_of(currency), 10),
        }
        for currency in cronus()["Currency"]
        if currency["Code"] not in OTHER_RATES
    ]


def _users() -> list[Row]:
    """Most salespeople; every third has another mobile phone in CRM than in NAV."""
    rows: list[Row] = []
    for number, person in enumerate(cronus()["Salesperson/Purchaser"]):
        if person["Code"] not in NO_USERS:
            row = user_row(str(person["Code"]))
            phone = row["mobilephone"]
            rows.append(
                {**row, "mobilephone": f"{phone[:-4]}7{phone[-3:]}"} if phone and number % 3 == 0 else row
            )
    return rows


def user_row(code: str) -> Row:
    """The CRM user of a salesperson."""
    person = next(s for s in cronus()["Salesperson/Purchaser"] if s["Code"] == code)
    first, _, last = str(person["Name"]).partition(" ")
    return {
        "systemuserid": row_id("systemusers", code),
        "firstname": first,
        "lastname": last,
        "internalemailaddress": person["E-Mail"],
        "domainname": person["E-Mail"],
        "mobilephone": person.get("Phone No."),
        "isdisabled": False,
        "islicensed": True,
        "isintegrationuser": False,
    }


def known_customers() -> list[Record]:
    """The customers that have an account already: every second one whose salesperson is a CRM user.

    Names that two customers share, and blank ones, are left to the synchronization.
    """
    names = Counter(customer["Name"] for customer in cronus()["Customer"])
    return [
        customer
        for number, customer in enumerate(cronus()["Customer"])
        if number % 2 == 0
        and customer.get("Salesperson Code") in users()
        and names[customer["Name"]] == 1
        and customer["Name"].strip()
    ]


def _accounts() -> list[Row]:
    return [_account(number, customer) for number, customer in enumerate(known_customers())]


def _account(number: int, customer: Record) -> Row:
    """What CRM knows of a customer: its name and number, its owner, and, of every second one, its address."""
    phone = customer.get("Phone No.")
    row = {
        "accountid": row_id("accounts", str(customer["No."])),
        "name": customer["Name"],
        "accountnumber": customer["No."] if number % 3 else None,
        "customertypecode": CUSTOMER_TYPE,
        "ownerid@odata.bind": f"/systemusers({row_id('systemusers', str(customer['Salesperson Code']))})",
        "telephone1": "+44 20 5550 1999" if customer["No."] in CLASHING or not phone else phone,
        "fax": f"+44 20 5551 {number:04}" if number % 5 == 0 else None,
    }
    if number % 2:
        row |= {
            "address1_line1": customer.get("Address"),
            "address1_line2": customer.get("Address 2"),
            "address1_city": customer.get("City"),
            "address1_postalcode": customer.get("Post Code"),
        }
    return {name: value for name, value in row.items() if value is not None}


OWN_ACCOUNTS = (
    ("Fourth Coffee", "Seattle", "+1 (425) 555-0181"),
    ("Litware, Inc.", "Dallas", "+1 (425) 555-0182"),
    ("Blue Yonder Airlines", "Los Angeles", "+1 (425) 555-0183"),
)
PARTNER = "Coho Winery (supplier)"
"""An account that is no customer: it stays out of NAV."""
OWN_CONTACTS = (
    ("Yvonne", "McKay", "Fourth Coffee"),
    ("Susanna", "Stubberod", "Litware, Inc."),
    ("Nancy", "Anderson", "Litware, Inc."),
    ("Maria", "Campbell", "Blue Yonder Airlines"),
)
LONE_CONTACT = ("Sidney", "Higa")
"""A contact without an account: there is no company for it in NAV, so it stays out."""


def _own_accounts() -> list[Row]:
    rows: list[Row] = [
        {
            "accountid": row_id("accounts", name),
            "name": name,
            "customertypecode": CUSTOMER_TYPE,
            "address1_city": city,
            "telephone1": phone,
            "ownerid@odata.bind": f"/systemusers({row_id('systemusers', 'JO')})",
        }
        for name, city, phone in OWN_ACCOUNTS
    ]
    return [*rows, {"accountid": row_id("accounts", PARTNER), "name": PARTNER, "customertypecode": 10}]


def persons() -> dict[str, Record]:
    """The contacts that can be coupled: persons of a company."""
    return {
        str(contact["No."]): contact
        for contact in cronus()["Contact"]
        if contact["Type"] == "Person" and contact.get("Company No.")
    }


def _customer_of() -> dict[str, str]:
    """By company contact the customer that it is."""
    return {str(r["Contact No."]): str(r["No."]) for r in cronus()["Contact Business Relation"]}


def persons_outside() -> set[str]:
    """The persons whose company is no customer: there is no account for them."""
    customers = _customer_of()
    return {no for no, person in persons().items() if person["Company No."] not in customers}


def persons_without_user() -> set[str]:
    """The persons that cannot be sent to CRM: their salesperson is no CRM user."""
    return {
        no
        for no, person in persons().items()
        if person.get("Salesperson Code") and person["Salesperson Code"] not in users()
    } - persons_outside()


def changed_users() -> int:
    """How many salespeople look different as CRM users."""
    phones = {
        str(s["E-Mail"]): s.get("Phone No.") for s in cronus()["Salesperson/Purchaser"] if "E-Mail" in s
    }
    return sum(row["mobilephone"] != phones[row["internalemailaddress"]] for row in _users())


def known_contacts() -> list[Record]:
    """The persons that CRM knows: the primary contacts of every third known customer, found by their e-mail."""
    mails = Counter(_mail(person) for person in persons().values())
    primary = (str(customer.get("Primary Contact No.")) for customer in known_customers()[::3])
    return [
        person
        for number in primary
        if (person := persons().get(number)) is not None
        and mails[_mail(person)] == 1
        and person.get("Salesperson Code", "") in users()
    ]


def _mail(contact: Record) -> str:
    return str(contact.get("E-Mail", "")).casefold()


def _contacts() -> list[Row]:
    customer_of = _customer_of()
    return [
        {
            "contactid": row_id("contacts", str(contact["No."])),
            "firstname": contact.get("First Name"),
            "middlename": contact.get("Middle Name"),
            "lastname": contact["Surname"],
            "emailaddress1": contact["E-Mail"],
            "ownerid@odata.bind": f"/systemusers({row_id('systemusers', str(contact['Salesperson Code']))})",
            "parentcustomerid_account@odata.bind": _bound(customer_of[str(contact["Company No."])]),
        }
        for contact in known_contacts()
    ]


def _own_contacts() -> list[Row]:
    rows: list[Row] = [
        {
            "contactid": row_id("contacts", f"{first} {last}"),
            "firstname": first,
            "lastname": last,
            "emailaddress1": f"{first}.{last}@{account.split()[0].strip(',').lower()}.example".lower(),
            "parentcustomerid_account@odata.bind": _bound(account),
            "ownerid@odata.bind": f"/systemusers({row_id('systemusers', 'JO')})",
        }
        for first, last, account in OWN_CONTACTS
    ]
    first, last = LONE_CONTACT
    lone = {"contactid": row_id("contacts", f"{first} {last}"), "firstname": first, "lastname": last}
    return [*rows, lone]


def _bound(account: Any) -> str:
    return f"/accounts({row_id('accounts', str(account))})"


OPEN_SALES: Mapping[str, int] = {"opportunities": 2, "quotes": 1, "incidents": 3}
"""What the account of the showcase customer has open in CRM."""


def _sales() -> dict[str, list[Row]]:
    """Opportunities, quotes and cases of the showcase customer's account, and one of each of another's."""
    keys = {"opportunities": "opportunityid", "quotes": "quoteid", "incidents": "incidentid"}
    other = next(c["No."] for c in known_customers() if c["No."] != SHOWCASE)
    found: dict[str, list[Row]] = {}
    for entity_set, number in OPEN_SALES.items():
        name = "title" if entity_set == "incidents" else "name"
        owners: Iterable[tuple[Any, int]] = [*((SHOWCASE, n) for n in range(number)), (other, 0)]
        found[entity_set] = [
            {
                keys[entity_set]: row_id(entity_set, f"{customer} {n}"),
                name: f"{entity_set.rstrip('s').capitalize()} {n + 1} of {customer}",
                "customerid_account@odata.bind": _bound(customer),
            }
            for customer, n in owners
        ]
    return found


def customers_without_user() -> set[str]:
    """The numbers of the customers that cannot be sent to CRM: their salesperson is no CRM user."""
    return {
        str(customer["No."])
        for customer in cronus()["Customer"]
        if customer.get("Salesperson Code") and customer["Salesperson Code"] not in users()
    }
