"""The connection of a company to CRM; its secrets are kept encrypted."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.revisions import first_revision
from app.db.secrets import Vault, join, split
from app.db.tables import crm_connection
from app.db.values import clean
from app.db.violations import translated
from app.domain.company import ConnectionSetup, ConnectionStatus, Credentials
from app.domain.errors import AlreadyExists, PreconditionFailed

_AS_IS = (
    "server_url", "api_version", "is_enabled", "app_id", "crm_version", "organization_id", "user_id",
    "user_is_integration_user", "user_is_administrator", "integration_solution_installed",
    "sales_order_integration_enabled", "user_mapping_required", "ignore_changes_by_user",
    "base_currency", "disabled_reason", "last_error", "last_checked_at",
)  # fmt: skip


class SqlConnections:
    """At most one connection for a company."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def find(self, company_id: int, *, lock: bool = False) -> ConnectionSetup | None:
        """The connection of the company, with its secrets in the clear, if there is one; with `lock` nobody else
        changes it before this transaction ends."""
        query = select(crm_connection).where(crm_connection.c.company_id == company_id)
        query = query.with_for_update() if lock else query
        row = (await self._connection.execute(query)).one_or_none()
        return None if row is None else self._setup(row)

    async def save(self, company_id: int, connection: ConnectionSetup) -> ConnectionSetup:
        """Inserts or updates, guarded by revision: raises PreconditionFailed."""
        changed = (
            update(crm_connection)
            .where(
                crm_connection.c.company_id == company_id, crm_connection.c.revision == connection.revision
            )
            .values(self._values(connection) | {"revision": connection.revision + 1})
            .returning(crm_connection)
        )
        row = (await self._connection.execute(changed)).one_or_none()
        if row is None:
            row = await self._insert(company_id, connection)
        return self._setup(row)

    async def delete(self, company_id: int) -> None:
        """Removes the connection, if there is one."""
        await self._connection.execute(
            delete(crm_connection).where(crm_connection.c.company_id == company_id)
        )

    async def contacted(self, company_id: int, error: str | None, at: datetime) -> None:
        """Records what the latest contact with CRM showed; not a change of the setup, so its revision stays."""
        status = ConnectionStatus.CONNECTED if error is None else ConnectionStatus.FAILED
        contact = crm_connection.c
        await self._connection.execute(
            update(crm_connection)
            .where(contact.company_id == company_id, contact.is_enabled)
            .where(or_(contact.last_checked_at.is_(None), contact.last_checked_at < at))
            .values(status=status, last_error=clean(error), last_checked_at=at)
        )

    async def posts_watermark(self, company_id: int) -> str | None:
        """Up to which version posted sales orders were told to CRM."""
        query = select(crm_connection.c.posts_watermark).where(crm_connection.c.company_id == company_id)
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def set_posts_watermark(self, company_id: int, watermark: str) -> None:
        """Not a change of the setup, so its revision stays."""
        await self._connection.execute(
            update(crm_connection)
            .where(crm_connection.c.company_id == company_id)
            .values(posts_watermark=watermark)
        )

    async def _insert(self, company_id: int, connection: ConnectionSetup) -> Row[Any]:
        values = self._values(connection) | {"company_id": company_id, "revision": first_revision()}
        stale = PreconditionFailed(
            "The connection was changed since it was read.", fix="Read it again and repeat the change."
        )
        if connection.revision:
            raise stale
        try:
            async with self._connection.begin_nested():
                with translated("a connection of the company"):
                    added = insert(crm_connection).values(values).returning(crm_connection)
                    row: Row[Any] = (await self._connection.execute(added)).one()
                    return row
        except AlreadyExists as error:
            raise stale from error

    def _values(self, setup: ConnectionSetup) -> dict[str, Any]:
        login = {name: getattr(setup.credentials, name) for name in Credentials.__slots__}
        shown, hidden = split(login)
        return {name: getattr(setup, name) for name in _AS_IS} | {
            "authentication": {name: value for name, value in shown.items() if value is not None},
            "secrets": self._vault.encrypt(hidden),
            "status": setup.status,
        }

    def _setup(self, row: Row[Any]) -> ConnectionSetup:
        login = join(row.authentication, self._vault.decrypt(row.secrets))
        return ConnectionSetup(
            credentials=Credentials(**login),
            status=ConnectionStatus(row.status),
            revision=row.revision,
            **{name: getattr(row, name) for name in _AS_IS},
        )
