"""Create, update and delete one row, with everything that hangs on it."""

from typing import Any

from app.sandbox import catalogue, rules
from app.sandbox.addresses import Context, find_by_values
from app.sandbox.errors import DataverseError, duplicate_alternate_key, duplicate_key, invalid, not_found
from app.sandbox.metadata import Attribute, Table
from app.sandbox.organization import Organization
from app.sandbox.storage import Row


def create(context: Context, table: Table, values: Row) -> str:
    """Insert a row and return its id.

    Args:
        context: who does it.
        table: the table.
        values: columns as `payload.columns` returns them; the primary key may be among them.
    Raises:
        DataverseError: the row is refused; nothing is written.
    """
    organization = context.organization
    organization.require(context.user, "Create", table.name)
    if table.name == "organization":
        raise DataverseError(405, "0x80060888", "The operation Create is not supported on 'organization'.")
    row_id = values.get(table.key) or organization.new_id()
    if row_id in organization.rows(table.name):
        raise duplicate_key()
    row: Row = {
        name: value for name, value in values.items() if value is not None and _creatable(table, name)
    }
    row[table.key] = row_id
    _defaults(context, table, row)
    _require_columns(table, row)
    rules.initial_state(organization, table, row, row_id)
    _created(context, table, row)
    rules.derive(context, table, None, row, row)
    _check_keys(organization, table, row, row_id)
    rules.require_no_duplicate(context, table, row, row_id)
    with organization.storage.transaction():
        organization.storage.put(table.name, row_id, row)
        _after_create(context, table, row, row_id)
    return row_id


def _creatable(table: Table, name: str) -> bool:
    attribute = table.attributes.get(name)
    return attribute is None or attribute.create or attribute.type in ("State", "EntityName")


def _defaults(context: Context, table: Table, row: Row) -> None:
    for attribute in table.attributes.values():
        if attribute.default is not None:
            row.setdefault(attribute.name, attribute.default)
    if "ownerid" in table.attributes and "ownerid" not in row:
        row["ownerid"], row["owneridtype"] = context.user, "systemuser"
    organization = context.organization
    if "organizationid" in table.attributes:
        row["organizationid"] = organization.id
    if table.name in ("systemuser", "team", "role"):
        row.setdefault("businessunitid", organization.business_unit)
    if table.name == "uom" and "baseuom" not in row and row.get("uomscheduleid"):
        base = _base_unit(organization, row["uomscheduleid"])
        if base is not None:
            row["baseuom"] = base
    if table.name == "pricelevel":
        row.setdefault("transactioncurrencyid", organization.base_currency)


def _base_unit(organization: Organization, schedule: str) -> str | None:
    data = organization.data("uom")
    units = data.ids("uomscheduleid", schedule)
    return next((unit for unit in units if data.rows[unit].get("isschedulebaseuom")), None)


def _require_columns(table: Table, row: Row) -> None:
    for attribute in table.attributes.values():
        if attribute.required == "SystemRequired" and attribute.name not in row:
            raise invalid(f"Required field '{attribute.name}' is missing on entity '{table.name}'.")


def _created(context: Context, table: Table, row: Row) -> None:
    now = context.organization.now()
    audit = {"createdon": now, "createdby": context.user, "createdonbehalfby": context.behind}
    if (given := row.get("overriddencreatedon")) is not None:
        if given > now:
            raise invalid("The overridden creation date cannot be in the future.")
        context.organization.require(context.user, "OverrideCreatedOnCreatedBy", "")
        audit["createdon"], row["overriddencreatedon"] = given, now
    for name, value in audit.items():
        if name in table.attributes and value is not None:
            row[name] = value
    _modified(context, table, row)


def _modified(context: Context, table: Table, row: Row) -> None:
    audit = {
        "modifiedon": context.organization.now(),
        "modifiedby": context.user,
        "modifiedonbehalfby": context.behind,
    }
    for name, value in audit.items():
        if name in table.attributes:
            if value is None:
                row.pop(name, None)
            else:
                row[name] = value


def _check_keys(organization: Organization, table: Table, row: Row, row_id: str) -> None:
    rules.require_unique(organization, table, row, row_id)
    for key in table.keys:
        if key.status != "Active":
            continue
        found = find_by_values(organization, table, {name: row.get(name) for name in key.attributes})
        if found is not None and found != row_id:
            labels = ", ".join(table.attributes[name].label for name in key.attributes)
            raise duplicate_alternate_key(key.label, labels)


def _after_create(context: Context, table: Table, row: Row, row_id: str) -> None:
    if table.name == "uomschedule":
        unit = context.organization.metadata.tables["uom"]
        values: dict[str, Any] = {"name": row["baseuomname"], "quantity": 1, "uomscheduleid": row_id}
        create(context, unit, values)
    elif table.name == "businessunit":
        team = context.organization.metadata.tables["team"]
        create(context, team, {"name": row["name"], "businessunitid": row_id, "teamtype": 0})


def update(context: Context, table: Table, row_id: str, changes: Row, *, closing: bool = False) -> None:
    """Change columns of a row.

    Args:
        context: who does it.
        table: the table.
        row_id: the row.
        changes: columns as `payload.columns` returns them; None empties one.
        closing: an action does it, which may set states that an update may not.
    Raises:
        DataverseError: the change is refused; nothing is written.
    """
    organization = context.organization
    organization.require(context.user, "Write", table.name)
    old = organization.rows(table.name).get(row_id)
    if old is None:
        raise not_found(table.name, row_id)
    changes = {name: value for name, value in changes.items() if _updatable(table, name, closing)}
    if "ownerid" in changes and changes["ownerid"] != old.get("ownerid"):
        organization.require(context.user, "Assign", table.name)
    if closing:
        rules.apply_state(table, old, changes, row_id)
    else:
        rules.change_state(table, old, changes, row_id)
    row = {name: value for name, value in (old | changes).items() if value is not None}
    _modified(context, table, row)
    rules.derive(context, table, old, row, changes)
    _check_keys(organization, table, row, row_id)
    rules.require_no_duplicate(context, table, row, row_id)
    organization.storage.put(table.name, row_id, row)


def _updatable(table: Table, name: str, closing: bool) -> bool:
    attribute = table.attributes.get(name)
    if attribute is None or attribute.type == "EntityName":
        return True
    return closing or attribute.update


def delete(context: Context, table: Table, row_id: str) -> None:
    """Delete a row: what belongs to it goes too, what only points to it loses the pointer.

    Raises:
        DataverseError: 405, when something in use forbids it.
    """
    organization = context.organization
    organization.require(context.user, "Delete", table.name)
    row = organization.rows(table.name).get(row_id)
    if row is None:
        raise not_found(table.name, row_id)
    _require_deletable(organization, table, row, row_id)
    with organization.storage.transaction():
        for child, attribute in organization.metadata.referencing[table.name]:
            for child_id in _pointing(organization, child, attribute, table, row_id):
                _release(context, table, child, attribute, child_id)
        if row_id in organization.rows(table.name):
            organization.storage.remove(table.name, row_id)


def _require_deletable(organization: Organization, table: Table, row: Row, row_id: str) -> None:
    if table.name in catalogue.UNDELETABLE:
        text = f"The operation Delete is not supported on '{table.name}'; disable the row instead."
        raise DataverseError(405, "0x80060888", text)
    if table.name == "businessunit" and not row.get("isdisabled"):
        raise _associated("A business unit must be disabled before it is deleted.")
    if row_id == organization.base_currency:
        raise _associated("The base currency cannot be deleted.")
    if table.name == "product" and row.get("statecode") != catalogue.INITIAL_STATE["product"]:
        raise _associated("Only a product in draft state can be deleted.")


def _associated(why: str = "") -> DataverseError:
    text = "The object you tried to delete is associated with another object and cannot be deleted."
    return DataverseError(405, "0x80040227", f"{text} {why}".rstrip())


def _pointing(
    organization: Organization, child: Table, attribute: Attribute, table: Table, row_id: str
) -> list[str]:
    data = organization.data(child.name)
    found = list(data.ids(attribute.name, row_id))
    if len(attribute.targets) > 1:
        return [i for i in found if data.rows[i].get(f"{attribute.name}type") == table.name]
    return found


def _release(context: Context, table: Table, child: Table, attribute: Attribute, child_id: str) -> None:
    organization = context.organization
    if child_id not in organization.rows(child.name):
        return  # gone with another parent already
    if (child.name, attribute.name) in catalogue.CASCADE_DELETE:
        delete(context, child, child_id)
        return
    if table.name in catalogue.RESTRICT_DELETE and (child.name, attribute.name) not in catalogue.REMOVE_LINK:
        raise _associated()
    row = dict(organization.rows(child.name)[child_id])
    row.pop(attribute.name, None)
    row.pop(f"{attribute.name}type", None)
    organization.storage.put(child.name, child_id, row)
