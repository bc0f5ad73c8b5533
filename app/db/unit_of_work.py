"""Short transactions on our memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.api_keys import SqlApiKeys
from app.db.breakers import SqlBreakers
from app.db.companies import SqlCompanies
from app.db.connection import SqlConnections
from app.db.couplings import SqlCouplings
from app.db.idempotency import SqlIdempotencyKeys
from app.db.job_queue import SqlJobQueue
from app.db.jobs import SqlSynchJobs
from app.db.mappings import SqlMappings, SqlOptionMappings
from app.db.reception import SqlReception
from app.db.refused_logins import SqlRefusedLogins
from app.db.secrets import Vault
from app.db.synch_log import SqlSynchLog
from app.db.violations import UNREACHABLE, of_transaction
from app.db.waiting import SqlWaitingRecords
from app.db.watches import SqlWatches
from app.db.workers import SqlWorkers
from app.domain.errors import DatabaseUnavailable, IntegrationError
from app.ports import (
    ApiKeys,
    Breakers,
    Companies,
    Connections,
    Couplings,
    IdempotencyKeys,
    JobQueue,
    Mappings,
    OptionMappings,
    Reception,
    RefusedLogins,
    SynchJobs,
    SynchLog,
    Transaction,
    WaitingRecords,
    Watches,
    Workers,
)

log = structlog.get_logger(__name__)


class SqlTransaction:
    """The repositories, all on one connection and so in one transaction."""

    def __init__(self, connection: AsyncConnection, vault: Vault) -> None:
        self.handle: object = connection
        self.companies: Companies = SqlCompanies(connection, vault)
        self.connections: Connections = SqlConnections(connection, vault)
        self.breakers: Breakers = SqlBreakers(connection)
        self.mappings: Mappings = SqlMappings(connection)
        self.option_mappings: OptionMappings = SqlOptionMappings(connection)
        self.couplings: Couplings = SqlCouplings(connection)
        self.waiting: WaitingRecords = SqlWaitingRecords(connection)
        self.jobs: SynchJobs = SqlSynchJobs(connection)
        self.synch_log: SynchLog = SqlSynchLog(connection)
        self.job_queue: JobQueue = SqlJobQueue(connection)
        self.api_keys: ApiKeys = SqlApiKeys(connection)
        self.reception: Reception = SqlReception(connection, vault)
        self.idempotency: IdempotencyKeys = SqlIdempotencyKeys(connection, vault)
        self.refused_logins: RefusedLogins = SqlRefusedLogins(connection)
        self.watches: Watches = SqlWatches(connection)
        self.workers: Workers = SqlWorkers(connection)


class SqlUnitOfWork:
    """Opens transactions; each sees what others committed before each of its statements."""

    def __init__(self, engine: AsyncEngine, vault: Vault) -> None:
        # Said here, because the default of a server may be another, and claims and reservations count on it.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED")
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._vault = vault

    @asynccontextmanager
    async def __call__(self, *, reading: bool = False) -> AsyncIterator[Transaction]:
        """A transaction: commits when its block ends, rolls back when it raises. With `reading` there is none:
        each statement stands for itself, and nothing may be written.

        Raises DatabaseUnavailable when there is no connection, or it broke: then nothing is known about the
        outcome of the commit; Busy when two transactions wait for each other; Invalid for text that
        PostgreSQL cannot keep.
        """
        connection = await self._connected(self._reading if reading else self._engine)
        try:
            if reading:
                yield SqlTransaction(connection, self._vault)
            else:
                async with connection.begin():
                    yield SqlTransaction(connection, self._vault)
        except DBAPIError as error:
            ours = of_transaction(error)
            if ours is None:
                raise
            _tell(ours, error)
            raise ours from error
        except OSError as error:  # a socket that broke, or a statement that took longer than any may
            broken = DatabaseUnavailable("The database did not answer.", fix=UNREACHABLE)
            _tell(broken, error)
            raise broken from error
        finally:
            with suppress(DBAPIError, OSError):  # a connection that broke; the pool takes a new one
                await connection.close()

    async def _connected(self, engine: AsyncEngine) -> AsyncConnection:
        try:
            return await engine.connect()
        except NoFreeConnection as error:
            raise DatabaseUnavailable(
                "Every connection to the database is in use.", fix="Raise NAVCRM_DATABASE_POOL_SIZE."
            ) from error
        except (DBAPIError, OSError) as error:
            away = DatabaseUnavailable("The database cannot be reached.", fix=UNREACHABLE)
            _tell(away, error)
            raise away from error


def _tell(ours: IntegrationError, error: Exception) -> None:
    """Logs what is the matter with the database itself; a caller hears less of it."""
    if isinstance(ours, DatabaseUnavailable):
        cause = getattr(error, "orig", None) or error
        log.error("the database is in trouble", code=ours.code, error=f"{type(cause).__name__}: {cause}")
