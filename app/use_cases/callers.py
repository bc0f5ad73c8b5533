"""Users must map to CRM users: who calls has to be a user of CRM, by e-mail (nav-behaviour 3.7).

Background jobs work as the user of the connection and are not asked.
"""

from app.domain.company import Company, ConnectionSetup
from app.domain.errors import UserNotMapped
from app.ports import Context, CrmSide

USER = "systemuser"
MAIL = "internalemailaddress"


async def require_mapped(ctx: Context, company: Company, email: str | None, who: str) -> None:
    """Raises UserNotMapped unless an enabled CRM user has the e-mail of the caller.

    Asks CRM, and only where the company requires it and its connection is enabled.
    """
    if not company.user_mapping_required:
        return
    async with ctx.uow(reading=True) as tx:
        connection = await tx.connections.find(company.id)
    if connection is not None and connection.is_enabled:
        await check_mapped(ctx.sides.crm(company, connection), connection, email, who)


async def check_mapped(crm: CrmSide, connection: ConnectionSetup, email: str | None, who: str) -> None:
    """Raises UserNotMapped unless an enabled CRM user has this e-mail."""
    if not email:
        raise UserNotMapped(
            f"Callers must be users of CRM, and {who} has no e-mail address to find one by.",
            fix="Use an API key with the email of a CRM user (POST /api/v1/api-keys), or an Entra ID token that names "
            "one; PATCH …/crm-connection with user_mapping_required false lets everybody in.",
        )
    found = (await crm.match(USER, MAIL, [email], ("isdisabled",))).get(email, ())
    if not any(user.values.get("isdisabled") is not True for user in found):
        raise UserNotMapped(
            f"No enabled user of {connection.server_url} has the e-mail address {email} of {who}.",
            fix="Add the user in CRM, or correct the e-mail address of the API key or of the CRM user.",
        )
