"""What the platform does to a row by itself: states, owners, currencies, computed columns."""

from decimal import Decimal
from typing import Any

from app.sandbox import catalogue
from app.sandbox.addresses import Context
from app.sandbox.errors import DataverseError, duplicate_key, invalid
from app.sandbox.metadata import Table
from app.sandbox.organization import Organization
from app.sandbox.storage import Row
from app.sandbox.values import rounded

CLOSED_BY = {
    ("opportunity", 1): "WinOpportunity",
    ("opportunity", 2): "LoseOpportunity",
    ("quote", 2): "WinQuote",
    ("quote", 3): "CloseQuote",
    ("incident", 1): "CloseIncident",
}
OPEN_WHEN_INACTIVE = frozenset({"ownerid", "owneridtype", "statecode", "statuscode"})
NUMBERED = {
    "quote": ("quotenumber", "QUO"),
    "salesorder": ("ordernumber", "ORD"),
    "invoice": ("invoicenumber", "INV"),
    "incident": ("ticketnumber", "CAS"),
}
UNIQUE = {"product": ("productnumber",), "transactioncurrency": ("isocurrencycode",)}
CUSTOMER_TABLES = ("opportunity", "quote", "salesorder", "invoice", "incident")


def _wrong_status(table: Table, state: Any, status: Any, row_id: str) -> DataverseError:
    label = table.attributes["statecode"].options.get(state, state)
    return DataverseError(
        400,
        "0x80048408",
        f"{status} is not a valid status code for state code {table.schema_name}State.{label} "
        f"on {table.name} with Id {row_id}.",
    )


def initial_state(organization: Organization, table: Table, row: Row, row_id: str) -> None:
    """Put a new row into the first state of its table.

    Raises:
        DataverseError: 400, for tables that refuse another state on create.
    """
    if not table.states:
        return
    state = _first_state(organization, table)
    wanted_state, wanted_status = row.get("statecode", state), row.get("statuscode")
    fits = wanted_state == state and (wanted_status is None or wanted_status in table.states[state])
    if not fits and table.name in catalogue.STRICT_CREATE_STATE:
        raise _wrong_status(table, wanted_state, wanted_status, row_id)
    row["statecode"] = state
    row["statuscode"] = wanted_status if fits and wanted_status is not None else table.states[state][0]


def _first_state(organization: Organization, table: Table) -> int:
    own = organization.rows("organization")[organization.id]
    if table.name == "product" and own.get("createproductswithoutparentinactivestate"):
        return 0
    return catalogue.INITIAL_STATE.get(table.name, 0)


def change_state(table: Table, old: Row, changes: Row, row_id: str) -> None:
    """Check and complete a change of state or status.

    Raises:
        DataverseError: 400, for a status of another state, or a state that only an action may set.
    """
    if not table.states:
        return
    state: Any = changes.get("statecode", old["statecode"])
    if state != old["statecode"] and (action := CLOSED_BY.get((table.name, state))):
        label = table.attributes["statecode"].options.get(state, state)
        raise invalid(
            f"This message can not be used to set the state of {table.name} to {label}. In order to set state of "
            f"{table.name} to {label}, use the {action}Request message instead."
        )
    apply_state(table, old, changes, row_id)
    inactive = table.name == "incident" and old["statecode"] and state == old["statecode"]
    if inactive and set(changes) - OPEN_WHEN_INACTIVE:
        raise invalid("This case is inactive: only its owner, state and status can be changed.")


def apply_state(table: Table, old: Row, changes: Row, row_id: str) -> None:
    """The same for the actions that close: any state, but a status that belongs to it."""
    if changes.get("statecode", 0) is None or changes.get("statuscode", 0) is None:
        raise invalid("State and status cannot be null.")
    state: Any = changes.get("statecode", old["statecode"])
    if "statuscode" in changes:
        if changes["statuscode"] not in table.states.get(state, ()):
            raise _wrong_status(table, state, changes["statuscode"], row_id)
    elif state != old["statecode"]:
        changes["statuscode"] = table.states[state][0]


def derive(context: Context, table: Table, old: Row | None, row: Row, changes: Row) -> None:
    """Fill the computed columns of a row that is about to be written."""
    organization = context.organization
    if "ownerid" in table.attributes and ("ownerid" in changes or old is None):
        _owner(organization, row)
    if "fullname" in table.attributes:
        parts = [row[name] for name in ("firstname", "middlename", "lastname") if row.get(name)]
        _assign(row, "fullname", " ".join(parts) or None)
    for prefix in ("address1", "shipto", "billto"):
        if f"{prefix}_composite" in table.attributes:
            _assign(row, f"{prefix}_composite", _address(row, prefix))
    _customer(table, row, changes)
    _products(organization, table, row, changes)
    if "exchangerate" in table.attributes and table.name != "transactioncurrency":
        _money(organization, table, row, changes, created=old is None)
    if old is None and table.name in NUMBERED:
        column, prefix = NUMBERED[table.name]
        row.setdefault(column, f"{prefix}-{organization.storage.version:06d}-S1")


def _assign(row: Row, name: str, value: Any) -> None:
    if value is None:
        row.pop(name, None)
    else:
        row[name] = value


def _owner(organization: Organization, row: Row) -> None:
    kind, owner = row["owneridtype"], row["ownerid"]
    _assign(row, "owninguser", owner if kind == "systemuser" else None)
    _assign(row, "owningteam", owner if kind == "team" else None)
    principal = organization.rows(kind).get(owner, {})
    _assign(row, "owningbusinessunit", principal.get("businessunitid", organization.business_unit))


def _address(row: Row, prefix: str) -> str | None:
    lines = [row.get(f"{prefix}_line{n}") for n in (1, 2, 3)]
    town = " ".join(v for n in ("stateorprovince", "postalcode") if (v := row.get(f"{prefix}_{n}")))
    city = ", ".join(v for v in (row.get(f"{prefix}_city"), town) if v)
    return "\r\n".join(v for v in (*lines, city, row.get(f"{prefix}_country")) if v) or None


def _customer(table: Table, row: Row, changes: Row) -> None:
    """The read-only account and contact behind a customer lookup."""
    if table.name == "contact":
        _split(row, "parentcustomerid", "accountid", "parentcontactid")
    elif table.name in CUSTOMER_TABLES:
        if table.name == "opportunity" and "customerid" not in changes:
            for name, kind in (("parentcontactid", "contact"), ("parentaccountid", "account")):
                if changes.get(name) and not row.get("customerid"):
                    row["customerid"], row["customeridtype"] = changes[name], kind
        _split(row, "customerid", "accountid", "contactid")
        if table.name == "opportunity" and changes.get("customerid"):
            column = "parentaccountid" if row["customeridtype"] == "account" else "parentcontactid"
            row.setdefault(column, row["customerid"])


def _split(row: Row, lookup: str, account: str, contact: str) -> None:
    kind = row.get(f"{lookup}type")
    _assign(row, account, row.get(lookup) if kind == "account" else None)
    _assign(row, contact, row.get(lookup) if kind == "contact" else None)


def _products(organization: Organization, table: Table, row: Row, changes: Row) -> None:
    if table.name == "productpricelevel":
        unit = organization.storage.row("uom", row.get("uomid")) or {}
        price_list = organization.storage.row("pricelevel", row.get("pricelevelid")) or {}
        product = organization.storage.row("product", row.get("productid")) or {}
        _assign(row, "uomscheduleid", unit.get("uomscheduleid"))
        _assign(row, "transactioncurrencyid", price_list.get("transactioncurrencyid"))
        _assign(row, "productnumber", product.get("productnumber"))
    elif table.name == "uom" and "isschedulebaseuom" not in row:
        row["isschedulebaseuom"] = not row.get("baseuom")
    elif table.name == "product" and changes.keys() & {"defaultuomid", "defaultuomscheduleid"}:
        unit = organization.storage.row("uom", row.get("defaultuomid")) or {}
        if unit.get("uomscheduleid") != row.get("defaultuomscheduleid"):
            raise invalid("The default unit is not part of the default unit group.")


def _money(organization: Organization, table: Table, row: Row, changes: Row, *, created: bool) -> None:
    money = table.money
    touched = any(column.name in changes for column in money)
    if "transactioncurrencyid" in changes or touched or (created and row.get("transactioncurrencyid")):
        if not row.get("transactioncurrencyid") and touched:
            row["transactioncurrencyid"] = organization.base_currency
        currency = organization.storage.row("transactioncurrency", row.get("transactioncurrencyid"))
        _assign(row, "exchangerate", currency and currency["exchangerate"])
    rate = row.get("exchangerate") or Decimal(1)
    for column in money:
        amount = row.get(column.name)
        _assign(row, f"{column.name}_base", None if amount is None else rounded(amount / rate, 4))


def require_no_duplicate(context: Context, table: Table, row: Row, row_id: str) -> None:
    """Refuse a row that a published rule calls a duplicate, if the caller has switched detection on."""
    if not context.detect_duplicates:
        return
    data = context.organization.data(table.name)
    for columns in context.organization.duplicate_rules.get(table.name, ()):
        if all(row.get(column) is not None for column in columns):
            sets = [data.ids(column, row[column]) for column in columns]
            if set.intersection(*sets) - {row_id}:
                raise DataverseError(
                    412,
                    "0x80040333",
                    "A record was not created or updated because a duplicate of the current record already exists.",
                )


def require_unique(organization: Organization, table: Table, row: Row, row_id: str) -> None:
    """Refuse a second row with the same number or code, where the platform wants it unique."""
    for column in UNIQUE.get(table.name, ()):
        if row.get(column) and organization.data(table.name).ids(column, row[column]) - {row_id}:
            raise duplicate_key()
