"""Companies."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.revisions import first_revision
from app.db.secrets import Vault, join, split
from app.db.tables import company, crm_connection
from app.db.violations import translated
from app.domain.company import Company, Generation
from app.domain.errors import CompanyNotFound, PreconditionFailed


class SqlCompanies:
    """The companies; the secrets among their connector's settings are kept encrypted."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    async def get(self, name: str, *, lock: bool = False) -> Company:
        """The company of that name; with `lock` nobody else changes it before this transaction ends.

        Raises CompanyNotFound.
        """
        query = _SELECT.where(company.c.name == name)
        query = query.with_for_update(of=company) if lock else query
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise CompanyNotFound(
                f"There is no company {name}.",
                fix="GET /api/v1/companies lists those there are; POST /api/v1/companies adds one.",
            )
        return company_of(row, self._vault)

    async def by_id(self, company_id: int) -> Company:
        """The company with that id. Raises CompanyNotFound."""
        row = (await self._connection.execute(_SELECT.where(company.c.id == company_id))).one_or_none()
        if row is None:
            raise CompanyNotFound("The company does not exist any more.")
        return company_of(row, self._vault)

    async def page(self, limit: int, after: str | None, names: Collection[str] | None) -> list[Company]:
        """At most `limit` companies in the order of their names, of these names only unless None."""
        query = _SELECT.order_by(company.c.name).limit(limit)
        if after is not None:
            query = query.where(company.c.name > after)
        if names is not None:
            query = query.where(company.c.name.in_(names))
        return [company_of(row, self._vault) for row in await self._connection.execute(query)]

    async def add(self, new: Company) -> Company:
        """The company with its id. Raises AlreadyExists."""
        values = self._values(new) | {"revision": first_revision()}
        statement = insert(company).values(values).returning(company.c.id)
        with translated(f"a company {new.name}"):
            company_id = (await self._connection.execute(statement)).scalar_one()
        return await self.by_id(company_id)

    async def save(self, changed: Company) -> Company:
        """Guarded by revision: raises PreconditionFailed; CompanyNotFound, AlreadyExists (a new name)."""
        statement = (
            update(company)
            .where(company.c.id == changed.id, company.c.revision == changed.revision)
            .values(self._values(changed) | {"revision": changed.revision + 1})
        )
        with translated(f"a company {changed.name}"):
            saved = await self._connection.execute(statement)
        present = await self.by_id(changed.id)
        if not saved.rowcount:
            raise PreconditionFailed(
                f"The company {present.name} was changed since it was read.",
                fix="Read it again and repeat the change.",
            )
        return present

    async def delete(self, company_id: int) -> None:
        """Removes the company with everything below it. Raises CompanyNotFound."""
        gone = await self._connection.execute(delete(company).where(company.c.id == company_id))
        if not gone.rowcount:
            raise CompanyNotFound("The company does not exist any more.")

    def _values(self, entity: Company) -> dict[str, Any]:
        shown, hidden = split(entity.nav)
        return {
            "name": entity.name,
            "display_name": entity.display_name,
            "nav": shown,
            "nav_secrets": self._vault.encrypt(hidden) if hidden else None,
            "nav_web_client_url": entity.nav_web_client_url,
            "defaults_generation": entity.defaults_generation,
            "local_currency": entity.local_currency,
        }


def company_of(row: Any, vault: Vault) -> Company:
    """The company out of a row of its table and of its connection's."""
    nav = row.nav if row.nav_secrets is None else join(row.nav, vault.decrypt(row.nav_secrets))
    return Company(
        id=row.id,
        name=row.name,
        display_name=row.display_name,
        nav=nav,
        nav_web_client_url=row.nav_web_client_url,
        defaults_generation=Generation(row.defaults_generation),
        local_currency=row.local_currency,
        tracking=bool(row.is_enabled),
        user_mapping_required=bool(row.user_mapping_required),
        revision=row.revision,
    )


_SELECT: Select[Any] = select(
    company, crm_connection.c.is_enabled, crm_connection.c.user_mapping_required
).outerjoin(crm_connection, crm_connection.c.company_id == company.c.id)
