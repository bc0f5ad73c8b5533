"""The two security roles: one for the user the service logs in as, one for people."""

from collections.abc import Iterable
from typing import Final
from xml.etree.ElementTree import Element

from app.solution.names import ADMINISTRATOR, ADMINISTRATOR_ID, CONNECTION, STATISTICS, USER, USER_ID
from app.solution.xml import node, values

_OWN: Final = (
    "Create",
    "Read",
    "Write",
    "Delete",
    "Append",
    "AppendTo",
)  # owned by the organization: no owner to assign
_KEPT: Final = (*_OWN, "Assign")
_POINTED_AT: Final = ("Read", "AppendTo")

BASE: Final = {
    STATISTICS: _OWN,
    CONNECTION: _OWN,
    "Account": _KEPT,
    "Contact": _KEPT,
    "TransactionCurrency": _OWN,
    "User": _POINTED_AT,
    "Team": ("Read",),
    "BusinessUnit": ("Read",),
    "Organization": ("Read",),
    "Role": ("Read",),  # the connection test says which roles our user has
    "Post": ("Create", "Read", "Append"),  # posted sales orders on the timelines of accounts
    # What tables and columns there are.
    "Entity": ("Read",),
    "Attribute": ("Read",),
    "Relationship": ("Read",),
    "OptionSet": ("Read",),
}
"""What keeping accounts, contacts, users and currencies in step takes."""

SALES: Final = {
    "Product": _OWN,  # price lists and unit groups, too
    "Opportunity": _KEPT,
    "Quote": ("Read",),
    "Order": _POINTED_AT,
    "Invoice": _KEPT,
    "Incident": ("Read",),
}
"""What the tables of Sales and Customer Service take; an organization without these apps has no such privileges."""


def roles_xml(*, sales: bool) -> list[Element]:
    """Both roles. `sales`: whether the organization has the tables of Sales and Customer Service."""
    needed = BASE | SALES if sales else BASE
    administrator = [f"prv{verb}{table}" for table, verbs in needed.items() for verb in verbs]
    return [
        _role(ADMINISTRATOR_ID, ADMINISTRATOR, administrator),
        _role(USER_ID, USER, [f"prvRead{CONNECTION}", f"prvRead{STATISTICS}"]),
    ]


def _role(role_id: str, name: str, privileges: Iterable[str]) -> Element:
    granted = [
        node("RolePrivilege", attributes={"name": privilege, "level": "Global"})
        for privilege in sorted(privileges)
    ]
    return node(
        "Role",
        [*values(IsCustomizable=1), node("RolePrivileges", granted)],
        attributes={"id": f"{{{role_id}}}", "name": name, "isinherited": "0"},
    )
