"""What the tests of our memory begin with."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec
from uuid import UUID, uuid4

from cryptography.fernet import Fernet
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.secrets import Vault
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.company import Company, ConnectionSetup, Credentials
from app.domain.coupling import Coupling, CouplingStatus
from app.domain.job import SynchJob, SynchMode

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = Fernet.generate_key().decode()
Given = ParamSpec("Given")


def as_a_request(
    test: Callable[Given, Coroutine[Any, Any, None]],
) -> Callable[Given, Coroutine[Any, Any, None]]:
    """Runs the test in a task of its own, as a request does: what it claims stays the claim of its task, and no later
    test writes in its name."""

    @wraps(test)
    async def run(*args: Given.args, **kwargs: Given.kwargs) -> None:
        await asyncio.create_task(test(*args, **kwargs))

    return run


def a_memory(engine: AsyncEngine) -> SqlUnitOfWork:
    """Our memory on the test's database."""
    return SqlUnitOfWork(engine, Vault([KEY]))


async def a_company(
    memory: SqlUnitOfWork, name: str = "cronus", nav: Mapping[str, Any] | None = None
) -> Company:
    """A saved company."""
    async with memory() as tx:
        return await tx.companies.add(Company(0, name, name.title(), nav or {"kind": "embedded"}))


async def a_connected_company(memory: SqlUnitOfWork, name: str = "cronus") -> Company:
    """A saved company whose connection is enabled: its jobs run."""
    company = await a_company(memory, name)
    async with memory() as tx:
        await tx.connections.save(company.id, a_setup(is_enabled=True))
    return company


def a_setup(**changes: Any) -> ConnectionSetup:
    """A connection with a client secret."""
    login = Credentials("client_secret", "tenant", "client", client_secret="not for the log")
    values: dict[str, Any] = {"server_url": "https://cronus.crm4.dynamics.com", "credentials": login}
    return ConnectionSetup(**values | changes)


def a_coupling(number: int = 1, **changes: Any) -> Coupling:
    """A coupling of customer `number` that is not saved yet."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "mapping": "CUSTOMER",
        "nav_table": "customers",
        "nav_id": UUID(int=number),
        "nav_key": str(10000 + number),
        "crm_entity": "account",
        "crm_id": uuid4(),
        "status": CouplingStatus.RESERVED,
    }
    return Coupling(**values | changes)


def a_job(mapping: str | None = "CUSTOMER", minutes: float = 0, **changes: Any) -> SynchJob:
    """A queued synch job, asked for so many minutes after noon."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "kind": "synchronize",
        "mapping": mapping,
        "mode": SynchMode.MODIFIED,
        "created_at": NOON + timedelta(minutes=minutes),
    }
    return SynchJob(**values | changes)


class Statements:
    """Counts the statements that reach the database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.count = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._seen)

    def _seen(self, *_: Any) -> None:
        self.count += 1
