"""What NAV keeps in code instead of in a row: the rules that implied rows name (`domain.defaults.implied_fields`).

Each takes a cell and gives the destination's value, KEEP, or the error of the record.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from app.domain import conversion
from app.domain.cell import (
    BASE_UNIT,
    CURRENCIES,
    EXCHANGE_RATE,
    KEEP,
    LOCAL_CURRENCY,
    NEW_IN_LOCAL_CURRENCY,
    UNITS,
    Cell,
    Keep,
    uncoupled,
)
from app.domain.errors import (
    Awaited,
    BaseUnitMissing,
    ContactTypeNotPerson,
    ContactWithoutAccount,
    ContactWithoutCompany,
    CurrencyWithoutIso,
    ExchangeRateMissing,
    IntegrationError,
    LookupNotCoupled,
    PriceCurrenciesMixed,
    SalespersonNotCoupled,
)
from app.domain.links import address_of
from app.domain.mapping import Direction
from app.domain.records import Reference, Side, Value

ACTIVE, RETIRED = 0, 1  # product.statecode
DEFAULT_PRECISION = 2


def _owner(cell: Cell) -> Value | Keep:
    """Owner and salesperson (nav-behaviour 8.3): a blank side leaves the other alone, as does a company that
    maps no salespeople; towards CRM the salesperson must be coupled; towards NAV an owner that stands for no
    salesperson changes nothing."""
    if cell.run is Direction.FROM_CRM:
        owner = cell.source.get(cell.crm.name)
        if not isinstance(owner, Reference):
            return KEEP
        return cell.lookups.nav_keys.get(("salespeople", owner.id), KEEP)
    code = str(cell.source.get(cell.nav.name) or "")
    if not code or "salespeople" not in cell.lookups.entities:
        return KEEP
    user = cell.lookups.crm_ids.get(("salespeople", code))
    if user is None:
        raise SalespersonNotCoupled(
            f"Salesperson {code} must be coupled to a CRM user first.",
            fix=f"PUT {address_of('salespeople', code)}/coupling couples the salesperson.",
            waits_for=Awaited("salespeople", nav_key=code),
        )
    return Reference(user, "systemuser")


def _contact(cell: Cell) -> str:
    """The CRM contact by its name, as far as the mapped fields tell it."""
    names = [str(cell.source.get(name) or "") for name in ("firstname", "lastname")]
    name = str(cell.source.get("fullname") or "") or " ".join(filter(None, names))
    return f"The CRM contact {name}" if name else "The CRM contact"


def _parent_account(cell: Cell) -> Value | Keep:
    """The company of a contact and its parent account (nav-behaviour 10.3)."""
    if cell.run is Direction.FROM_CRM:
        if cell.found is not None and cell.found.get("Type") == "Company":
            raise ContactTypeNotPerson(
                f"{_contact(cell)} is a company in NAV by now; only persons are synchronized.",
                fix="Make it a person again in NAV, or remove the coupling: DELETE …/nav/contacts/{no}/coupling.",
            )
        parent = cell.source.get(cell.crm.name)
        if not isinstance(parent, Reference):
            raise ContactWithoutAccount(
                f"{_contact(cell)} belongs to no account, so there is no company for it in NAV.",
                fix="Set the contact's company in CRM to an account that is coupled to a customer.",
            )
        customer = cell.lookups.nav_keys.get(("customers", parent.id))
        if customer is None:
            raise ContactWithoutAccount(
                f"The account {parent.id} of {_contact(cell).replace('The', 'the', 1)} is not coupled to a customer.",
                fix=f"PUT …/nav/customers/{{no}}/coupling with crm_id {parent.id} couples it.",
                waits_for=Awaited("customers", crm_id=parent.id),
            )
        return customer
    customer_no = str(cell.source.get(cell.nav.name) or "")
    if not customer_no:
        raise ContactWithoutCompany(
            "The contact's company is not related to a customer, so it has no account in CRM.",
            fix="Give the contact a company that is a customer: PATCH …/nav/contacts/{no} with Company_No.",
        )
    account = cell.lookups.crm_ids.get(("customers", customer_no))
    if account is None:
        raise LookupNotCoupled(
            f"Customer {customer_no}, the contact's company, must be coupled to an account first.",
            fix=f"PUT {address_of('customers', customer_no)}/coupling couples it.",
            waits_for=Awaited("customers", nav_key=customer_no),
        )
    return Reference(account, "account")


def _blocked_when_inactive(cell: Cell) -> Value | Keep:
    """An inactive account blocks its customer, if it is not blocked already; nothing ever unblocks it
    (nav-behaviour 10.2)."""
    inactive = cell.source.get(cell.crm.name) == 2
    blocked = bool(cell.found and cell.found.get(cell.nav.name))
    return "All" if inactive and not blocked else KEEP


def _exchange_rate(cell: Cell) -> Value | Keep:
    """How many units of the currency one unit of CRM's base currency is (nav-behaviour 10.4). An existing
    row keeps its rate where NAV has none."""
    iso = _iso_code(cell)
    if not iso:
        code = str(cell.source.get("Code") or "")
        raise CurrencyWithoutIso(
            f"Currency {code} has no ISO code, by which CRM would know it.",
            fix=f"Give the currency its code: PATCH {address_of(CURRENCIES, code)}.",
        )
    base = cell.lookups.base_currency
    if iso == base:
        return conversion.to_crm(Decimal(1), cell.nav, cell.crm)
    local = cell.lookups.local_currency
    ours = Decimal(1) if iso == local else cell.source.get(cell.nav.name)
    theirs = Decimal(1) if base == local else cell.lookups.base_factor
    if isinstance(ours, Decimal) and ours and theirs:
        return conversion.to_crm(ours / theirs, cell.nav, cell.crm)
    if cell.found is not None:
        return KEEP
    raise _rate_missing(base, iso if theirs else base)


def _iso_code(cell: Cell) -> str:
    """The code under which the mapping knows the currency in CRM."""
    rows = cell.shape.mapping.rows(Direction.TO_CRM)
    fields = [row.nav_field for row in rows if row.crm_attribute == "isocurrencycode" and row.nav_field]
    return str(cell.source.get(fields[0] if fields else "Code") or "")


def _rate_missing(base: str | None, currency: str | None) -> ExchangeRateMissing:
    if base is None:
        return ExchangeRateMissing(
            "The base currency of CRM is not known, so no exchange rate can be stated.",
            fix="POST …/crm-connection/test finds it out.",
        )
    return ExchangeRateMissing(
        f"Currency {currency} has no exchange rate in NAV that holds today; a currency in CRM needs one.",
        fix=f"POST …/nav/currency-exchange-rates with Currency_Code {currency}, Starting_Date, "
        "Exchange_Rate_Amount and Relational_Exch_Rate_Amount adds the rate.",
    )


def _currency_precision(cell: Cell) -> Value | Keep:
    """The decimals of a new currency, from NAV's "2:2": what it shows at most."""
    if cell.found is not None:
        return KEEP
    decimals = str(cell.source.get(cell.nav.name) or "").rpartition(":")[2].strip()
    number = int(decimals) if decimals.isdecimal() else DEFAULT_PRECISION
    return min(number, int(cell.crm.maximum) if cell.crm.maximum is not None else number)


def _local_currency(cell: Cell) -> Value | Keep:
    """The amounts of the record are in the local currency."""
    local = cell.lookups.crm_ids.get((CURRENCIES, ""))
    if local is None:
        shown = cell.lookups.local_currency
        raise LookupNotCoupled(
            f"CRM has no currency with the ISO code {shown}, the local currency of the company.",
            fix=f"Add the currency {shown} in CRM.",
        )
    return Reference(local, "transactioncurrency")


def _new_in_local_currency(cell: Cell) -> Value | Keep:
    """New records get the currency that their amounts are in; afterwards it belongs to CRM."""
    return KEEP if cell.found is not None else _local_currency(cell)


def _price_list_currency(cell: Cell) -> Value | Keep:
    """The one currency of all prices of a group, the local one without any (nav-behaviour 10.7). CRM takes it with a
    new price list alone."""
    code = str(cell.source.get(cell.nav.name) or "")
    if not code:
        return _local_currency(cell)
    group = cell.source.get("Code")
    if "," in code:
        raise PriceCurrenciesMixed(
            f"The prices of group {group} are in several currencies; a price list in CRM has one.",
            fix=f"GET …/nav/sales-prices?filter=Sales_Code eq '{group}' lists them; give them one Currency_Code.",
        )
    currency = cell.lookups.crm_ids.get((CURRENCIES, code))
    if currency is None:
        raise LookupNotCoupled(
            uncoupled(cell, CURRENCIES, code),
            fix=f"PUT {address_of(CURRENCIES, code)}/coupling couples it.",
            waits_for=Awaited(CURRENCIES, nav_key=code),
        )
    return Reference(currency, "transactioncurrency")


def _base_unit(cell: Cell) -> Value | Keep:
    """The one unit of the group that stands for the base unit of measure (nav-behaviour 10.5, 10.6)."""
    code = str(cell.source.get(cell.nav.name) or "")
    if not code:
        raise BaseUnitMissing(
            f"The {cell.shape.nav.label} has no base unit of measure, which a product needs.",
            fix=f"PATCH …/nav/{cell.shape.nav.name}/{{no}} with {cell.nav.name}.",
        )
    unit = cell.lookups.base_units.get(code)
    if isinstance(unit, IntegrationError):
        raise unit
    if unit is None:
        raise LookupNotCoupled(
            uncoupled(cell, UNITS, code),
            fix=f"POST {address_of(UNITS, code)}/create-in-crm creates the unit group.",
            waits_for=Awaited(UNITS, nav_key=code),
        )
    return Reference(unit, "uom")


def _on_insert(cell: Cell) -> Value | Keep:
    """A constant that new records get; afterwards it belongs to CRM."""
    if cell.found is not None:
        return KEEP
    return conversion.constant(cell.row.constant_value or "", cell.crm, Side.CRM)


def _product_state(cell: Cell) -> Value | Keep:
    """A blocked record is a retired product, and the other way round (nav-behaviour 10.6). New products stay as CRM
    makes them until they have their price; then they become active."""
    if cell.run is Direction.FROM_CRM:
        state = cell.source.get(cell.crm.name)
        return KEEP if state is None else state != ACTIVE
    if cell.found is None:
        return KEEP
    return RETIRED if cell.source.get(cell.nav.name) else ACTIVE


RULES: Final[Mapping[str, Callable[[Cell], Value | Keep]]] = {
    "owner": _owner,
    "parent_account": _parent_account,
    "blocked_when_inactive": _blocked_when_inactive,
    EXCHANGE_RATE: _exchange_rate,
    "currency_precision": _currency_precision,
    LOCAL_CURRENCY: _local_currency,
    NEW_IN_LOCAL_CURRENCY: _new_in_local_currency,
    "price_list_currency": _price_list_currency,
    BASE_UNIT: _base_unit,
    "on_insert": _on_insert,
    "product_state": _product_state,
}
"""The rules by the names that rows carry."""
