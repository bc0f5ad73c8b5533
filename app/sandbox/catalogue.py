"""What Dataverse knows about its own tables and the column list does not say."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.sandbox.metadata import Attribute

CUSTOM_PREFIXES = ("nav_", "bcbi_", "navcrm_")

TRACKED = (
    "account",
    "contact",
    "systemuser",
    "transactioncurrency",
    "product",
    "opportunity",
    "uom",
    "uomschedule",
    "pricelevel",
    "productpricelevel",
    "quote",
    "salesorder",
    "invoice",
    "incident",
    "nav_accountstatistics",
)

SET_NAMES = {
    "nav_accountstatistics": "nav_accountstatisticses",
    "nav_connection": "nav_connections",
    "bcbi_company": "bcbi_companies",
    "systemuserroles": "systemuserrolescollection",
    "teammembership": "teammemberships",
    "teamroles": "teamrolescollection",
}
SCHEMA_NAMES = {
    "systemuser": "SystemUser",
    "transactioncurrency": "TransactionCurrency",
    "businessunit": "BusinessUnit",
    "uom": "UoM",
    "uomschedule": "UoMSchedule",
    "pricelevel": "PriceLevel",
    "productpricelevel": "ProductPriceLevel",
    "salesorder": "SalesOrder",
    "quotedetail": "QuoteDetail",
    "nav_accountstatistics": "nav_AccountStatistics",
    "nav_connection": "nav_Connection",
    "bcbi_company": "bcbi_Company",
}
_TYPE_CODES = {
    "account": 1,
    "contact": 2,
    "opportunity": 3,
    "systemuser": 8,
    "team": 9,
    "businessunit": 10,
    "systemuserroles": 14,
    "teammembership": 23,
    "teamroles": 40,
    "incident": 112,
    "organization": 1019,
    "pricelevel": 1022,
    "product": 1024,
    "productpricelevel": 1026,
    "role": 1036,
    "uom": 1055,
    "uomschedule": 1056,
    "quote": 1084,
    "quotedetail": 1085,
    "salesorder": 1088,
    "salesorderdetail": 1089,
    "invoice": 1090,
    "invoicedetail": 1091,
    "opportunityclose": 4208,
    "quoteclose": 4211,
    "incidentresolution": 4206,
    "sdkmessage": 4606,
    "sdkmessagefilter": 4607,
    "asyncoperation": 4700,
    "solution": 7100,
    "post": 8000,
    "transactioncurrency": 9105,
    "nav_accountstatistics": 10001,
    "nav_connection": 10002,
    "bcbi_company": 10003,
    "navcrm_accountstatistics": 10004,
    "navcrm_connection": 10005,
}
_PRIMARY_NAMES = {
    "transactioncurrency": "currencyname",
    "incident": "title",
    "solution": "friendlyname",
    "quotedetail": "productdescription",
    "salesorderdetail": "productdescription",
    "invoicedetail": "productdescription",
    "productpricelevel": None,
    "post": None,
    "sdkmessagefilter": None,
}

# Schema names that NAV's field names do not give.
SCHEMA_NAMES_OF_COLUMNS = {"nav_accountstatisticsid": "nav_accountstatisticsid"}

# Columns that the API lets us write although NAV's tables do not.
WRITABLE = frozenset({("systemuser", "isdisabled"), ("businessunit", "isdisabled"), ("account", "statecode")})

REQUIRED: dict[str, tuple[str, ...]] = {
    "transactioncurrency": (
        "isocurrencycode",
        "currencyname",
        "currencysymbol",
        "currencyprecision",
        "exchangerate",
    ),
    "product": ("name", "productnumber", "defaultuomid", "defaultuomscheduleid", "quantitydecimal"),
    "uom": ("name", "quantity", "uomscheduleid"),
    "uomschedule": ("name", "baseuomname"),
    "pricelevel": ("name",),
    "productpricelevel": ("pricelevelid", "productid", "uomid"),
    "incident": ("customerid",),
    "businessunit": ("name",),
    "team": ("name",),
    "role": ("name",),
}
RANGES = {
    ("transactioncurrency", "exchangerate"): (Decimal("0.0000000001"), Decimal(100000000000)),
    ("account", "creditlimit"): (Decimal(0), Decimal(100000000000000)),
    ("contact", "creditlimit"): (Decimal(0), Decimal(100000000000000)),
    ("account", "revenue"): (Decimal(0), Decimal(100000000000000)),
}

# (table, lookup, table it points to) -> collection of that table
COLLECTIONS = {
    ("contact", "parentcustomerid", "account"): "contact_customer_accounts",
    ("contact", "parentcustomerid", "contact"): "contact_customer_contacts",
    ("opportunity", "customerid", "account"): "opportunity_customer_accounts",
    ("opportunity", "customerid", "contact"): "opportunity_customer_contacts",
    ("quote", "customerid", "account"): "quote_customer_accounts",
    ("quote", "customerid", "contact"): "quote_customer_contacts",
    ("salesorder", "customerid", "account"): "order_customer_accounts",
    ("salesorder", "customerid", "contact"): "order_customer_contacts",
    ("invoice", "customerid", "account"): "invoice_customer_accounts",
    ("invoice", "customerid", "contact"): "invoice_customer_contacts",
    ("incident", "customerid", "account"): "incident_customer_accounts",
    ("incident", "customerid", "contact"): "incident_customer_contacts",
    ("account", "parentaccountid", "account"): "account_parent_account",
    ("account", "primarycontactid", "contact"): "account_primary_contact",
    ("account", "ownerid", "systemuser"): "user_accounts",
    ("account", "ownerid", "team"): "team_accounts",
    ("systemuser", "businessunitid", "businessunit"): "business_unit_system_users",
    ("systemuser", "parentsystemuserid", "systemuser"): "user_parent_user",
    ("account", "transactioncurrencyid", "transactioncurrency"): "transactioncurrency_account",
    ("uom", "uomscheduleid", "uomschedule"): "unit_of_measurement_schedule_conversions",
    ("productpricelevel", "pricelevelid", "pricelevel"): "price_level_product_price_levels",
    ("productpricelevel", "productid", "product"): "product_price_levels",
    ("quotedetail", "quoteid", "quote"): "quote_details",
    ("salesorderdetail", "salesorderid", "salesorder"): "order_details",
    ("invoicedetail", "invoiceid", "invoice"): "invoice_details",
    ("quote", "opportunityid", "opportunity"): "opportunity_quotes",
    ("account", "nav_accountstatisticsid", "nav_accountstatistics"): "nav_nav_accountstatistics_account",
}
# (name, intersect table, one side and its key there, the other side and its key there)
MANY_TO_MANY = (
    (
        "systemuserroles_association",
        "systemuserroles",
        ("systemuser", "systemuserid"),
        ("role", "roleid"),
    ),
    ("teammembership_association", "teammembership", ("team", "teamid"), ("systemuser", "systemuserid")),
    ("teamroles_association", "teamroles", ("team", "teamid"), ("role", "roleid")),
)

# What becomes of the rows that point to a deleted one; not listed = their lookup is emptied.
CASCADE_DELETE = frozenset(
    {
        ("contact", "parentcustomerid"),
        ("opportunity", "customerid"),
        ("quote", "customerid"),
        ("salesorder", "customerid"),
        ("invoice", "customerid"),
        ("incident", "customerid"),
        ("post", "regardingobjectid"),
        ("quotedetail", "quoteid"),
        ("salesorderdetail", "salesorderid"),
        ("invoicedetail", "invoiceid"),
        ("productpricelevel", "pricelevelid"),
        ("productpricelevel", "productid"),
        ("uom", "uomscheduleid"),
        ("opportunityclose", "opportunityid"),
        ("quoteclose", "quoteid"),
        ("incidentresolution", "incidentid"),
    }
)
REMOVE_LINK = frozenset({("uom", "baseuom"), ("product", "parentproductid")})
RESTRICT_DELETE = frozenset({"transactioncurrency", "uom", "uomschedule", "pricelevel", "product"})
UNDELETABLE = frozenset({"systemuser", "organization", "sdkmessage", "sdkmessagefilter"})

_STATES: dict[str, dict[int, list[int]]] = {
    "opportunity": {0: [1, 2], 1: [3], 2: [4, 5]},
    "quote": {0: [1], 1: [3, 2], 2: [4], 3: [5, 6, 7]},
    "incident": {0: [1, 2, 3, 4], 1: [5, 1000], 2: [6, 2000]},
    "product": {0: [1], 1: [2], 2: [0], 3: [3]},
    "pricelevel": {0: [100001], 1: [100002]},
    "salesorder": {0: [1, 2], 1: [3], 2: [4], 3: [100001, 100002], 4: [100003]},
    "invoice": {0: [1, 2, 4, 5, 6], 1: [3, 7], 2: [100001, 100002], 3: [100003]},
}
# A new row starts in its first state; these refuse another one, the rest store the default instead.
STRICT_CREATE_STATE = frozenset({"quote", "salesorder", "invoice"})
INITIAL_STATE = {"product": 2}


def states(table: str, attributes: "dict[str, Attribute]") -> dict[int, list[int]]:
    """Each state of a table with its statuses, the default first; empty if the table has no state."""
    if "statecode" not in attributes:
        return {}
    return _STATES.get(table, {0: [1], 1: [2]})


def type_code(name: str) -> int:
    """The ObjectTypeCode of a table."""
    return _TYPE_CODES.get(name, 10100)


def primary_name(name: str, attributes: "dict[str, Attribute]") -> str | None:
    """The column that names a row to people."""
    if name in _PRIMARY_NAMES:
        return _PRIMARY_NAMES[name]
    prefix = next((p for p in CUSTOM_PREFIXES if name.startswith(p)), "")
    candidates = ("fullname", f"{prefix}name", "name", "subject")
    return next((c for c in candidates if c in attributes), None)


def _column(name: str, kind: str, *, write: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "logical_name": name,
        "crm_type": kind,
        "insert": write,
        "modify": write,
        "nav_field": name,
        **more,
    }


def _lookup(name: str, *targets: str, write: bool = True) -> dict[str, Any]:
    return _column(name, "Lookup", write=write, lookup_targets=list(targets))


_ADDITIONAL: dict[str, list[dict[str, Any]]] = {
    "account": [_lookup("masterid", "account", write=False), _column("merged", "Boolean", write=False)],
    "contact": [_lookup("masterid", "contact", write=False), _column("merged", "Boolean", write=False)],
    "systemuser": [_column("azureactivedirectoryobjectid", "Uniqueidentifier")],
    "organization": [
        _column("expirechangetrackingindays", "Integer"),
        _column("createproductswithoutparentinactivestate", "Boolean"),
    ],
    "team": [_column("isdefault", "Boolean", write=False)],
}


def _options(*labels: str) -> list[dict[str, Any]]:
    return [
        {"value": value, "name": label.replace(" ", ""), "label": label}
        for value, label in enumerate(labels, 1)
    ]


def additional(table: str) -> list[dict[str, Any]]:
    """Columns that the service needs and NAV's tables do not have."""
    return _ADDITIONAL.get(table, [])


def system_tables() -> dict[str, list[dict[str, Any]]]:
    """Tables that NAV has no table for: what the closing actions write, and the list of available messages."""
    key = {"insert": True, "modify": False}

    def activity(name: str, parent: str) -> list[dict[str, Any]]:
        return [
            _column(f"{name}id", "Uniqueidentifier") | key,
            _column("subject", "String", max_length=200),
            _column("description", "Memo"),
            _column("actualend", "DateTime", nav_type="DateTime"),
            _lookup(f"{parent}id", parent),
            *audit(),
        ]

    return {
        "opportunityclose": [
            *activity("opportunityclose", "opportunity"),
            _column("actualrevenue", "Money"),
            _lookup("transactioncurrencyid", "transactioncurrency"),
            _column("exchangerate", "Decimal", write=False),
        ],
        "quoteclose": activity("quoteclose", "quote"),
        "incidentresolution": [*activity("incidentresolution", "incident"), _column("timespent", "Integer")],
        "post": [
            _column("postid", "Uniqueidentifier") | key,
            _column("text", "Memo", max_length=2000),
            _column("source", "Picklist", options=_options("Auto Post", "Manual Post", "ActionHub Post")),
            _column(
                "type",
                "Picklist",
                options=_options(
                    "Check-in", "Idea", "News", "Private Message", "Question", "Re-post", "Status"
                ),
            ),
            _lookup(
                "regardingobjectid", "account", "contact", "opportunity", "quote", "salesorder", "incident"
            ),
            *audit(),
        ],
        "sdkmessage": [
            _column("sdkmessageid", "Uniqueidentifier") | key,
            _column("name", "String", max_length=256),
            *audit(),
        ],
        "sdkmessagefilter": [
            _column("sdkmessagefilterid", "Uniqueidentifier") | key,
            _lookup("sdkmessageid", "sdkmessage"),
            _column("primaryobjecttypecode", "String", max_length=64),
            *audit(),
        ],
    }


def audit() -> list[dict[str, Any]]:
    """Who made a row and who changed it last, and when."""
    moments = [
        _column(name, "DateTime", write=False, nav_type="DateTime") for name in ("createdon", "modifiedon")
    ]
    users = [_lookup(name, "systemuser", write=False) for name in ("createdby", "modifiedby")]
    return [*moments, *users, _column("versionnumber", "BigInt", write=False)]
