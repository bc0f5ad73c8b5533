"""From the address of a database to a pool of connections."""

import math
import time
from typing import Any

import asyncpg
from pydantic_core import from_json, to_json
from sqlalchemy import URL, ExceptionContext, event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

DRIVER = "postgresql+asyncpg"
STATEMENT_TIMEOUT = 60.0  # seconds; the longest a statement of the service may take
CONNECT_TIMEOUT = 15.0  # seconds
ASK_AFTER = 1.0  # seconds without use
PORTS = range(1, 65536)
NO_PORT = f"The port of a database address is a number from {PORTS[0]} to {PORTS[-1]}."
USED = "used"  # when a connection was given back
READ_ONLY = "25006"
# Parameters of an address that asyncpg would hand to the server, which does not know them.
NOT_FOR_THE_SERVER = {
    "channel_binding", "client_encoding", "connect_timeout", "fallback_application_name", "gssencmode", "keepalives",
    "keepalives_count", "keepalives_idle", "keepalives_interval", "prepared_statement_cache_size", "ssl",
    "tcp_user_timeout",
}  # fmt: skip


def async_url(address: str | URL) -> URL:
    """The address with the driver's name, which `postgres://` and `postgresql://` leave open. Raises ArgumentError for
    what is no address, ValueError for one that cannot be meant."""
    try:
        url = make_url(address)
    except ValueError:  # what stands in place of the port may be a piece of the password
        raise ValueError(NO_PORT) from None
    if url.port is not None and url.port not in PORTS:
        raise ValueError(NO_PORT)
    if url.drivername not in ("postgres", "postgresql", DRIVER):
        raise ValueError(f"A database address begins with postgresql://, not {url.drivername}://.")
    return url.set(drivername=DRIVER)


def libpq_url(address: str | URL) -> str:
    """The address as `asyncpg.connect` takes it, password included, without what asyncpg does not know."""
    url = async_url(address)
    query = {name: value for name, value in url.query.items() if name not in NOT_FOR_THE_SERVER}
    if "ssl" in url.query:  # SQLAlchemy's spelling
        query.setdefault("sslmode", url.query["ssl"])
    return url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)


async def connect(
    address: str | URL, statement_timeout: float | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection outside any pool, to listen on or to administer with."""
    url = async_url(address)
    named = url.query.get("application_name", "navcrm")
    return await asyncpg.connect(
        libpq_url(url),
        timeout=_number(url, "connect_timeout", CONNECT_TIMEOUT),
        command_timeout=statement_timeout,
        server_settings={"application_name": str(named), "timezone": "UTC"},
        **_statement_cache(url),
    )


def create_engine(
    address: str | URL, pool_size: int = 20, statement_timeout: float | None = STATEMENT_TIMEOUT
) -> AsyncEngine:
    """A pool of at most `pool_size` connections, checked before use so that a restarted server is no error.

    Behind a pooler in transaction mode, add `?prepared_statement_cache_size=0` to the address.
    """
    url = async_url(address)

    async def creator() -> "asyncpg.Connection[asyncpg.Record]":
        return await connect(url, statement_timeout)

    cache = {name: value for name, value in url.query.items() if name == "prepared_statement_cache_size"}
    engine = create_async_engine(
        url.set(query=cache),  # asyncpg reads the rest itself, in `connect`
        async_creator=creator,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_recycle=1800,
        hide_parameters=True,  # an error's text reaches the log; what records say does not
        json_serializer=_json,
        json_deserializer=from_json,
    )
    event.listen(engine.sync_engine, "checkin", _note_use)
    event.listen(engine.sync_engine, "checkout", _require_alive)
    event.listen(engine.sync_engine, "handle_error", _leave_read_only)
    return engine


def _note_use(connection: Any, record: ConnectionPoolEntry) -> None:
    record.info[USED] = time.monotonic()


def _require_alive(connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:
    """Lets the pool take another connection in place of one that broke.

    A connection whose end has come knows it. One that nobody used for a while is asked, in case its end went
    unnoticed; that takes three trips to the server, too many to do it each time.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    if time.monotonic() - record.info.get(USED, math.inf) > ASK_AFTER:
        try:
            connection.ping()
        except Exception as error:
            raise DisconnectionError from error


def _leave_read_only(context: ExceptionContext) -> None:
    """Lets the pool begin anew where nothing may be written.

    A connection that came upon a standby, or a database that was closed to writes, would be refused long after that is
    over.
    """
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def _statement_cache(url: URL) -> dict[str, Any]:
    name = "prepared_statement_cache_size"
    return {"statement_cache_size": int(_number(url, name, 0))} if name in url.query else {}


def _number(url: URL, name: str, otherwise: float) -> float:
    """What a parameter of the address says."""
    try:
        return float(str(url.query.get(name, otherwise)))
    except ValueError:
        raise ValueError(f"{name} of a database address is a number.") from None


def _json(value: object) -> str:
    """JSON text of a value; two to five times as fast as the standard library on our rows."""
    return to_json(value).decode()
