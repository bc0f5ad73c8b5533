"""Door three: `navcrm serve`, `worker`, `healthcheck`, `migrate`, `rotate-secrets`, `demo`, `crm-sandbox`,
`crm-solution`, `api-key`, `openapi`.

What a command needs is imported inside it, so that `navcrm --help` answers at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from uuid import UUID

import typer

if TYPE_CHECKING:
    import socket

    from app.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    name="navcrm",
    help="Keeps Dynamics NAV and Dynamics CRM (Dataverse) in step, over REST.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
keys = typer.Typer(help="Keys that callers of the API carry.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="api-key")

DRAIN_SECONDS = 10
"""How long open requests may take to end when the service stops."""

WithParent = Annotated[
    bool, typer.Option("--with-parent", hidden=True, help="End when standard input is closed.")
]


def main() -> None:
    """What the command `navcrm` runs."""
    app()


# --- the commands -------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default NAVCRM_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default NAVCRM_PORT.")] = None,
    worker: Annotated[bool, typer.Option(help="Run synch jobs in this process, too.")] = True,
    with_parent: WithParent = False,
) -> None:
    """Serve the API. The database is brought to the newest schema first."""
    settings = _settings(host=host, port=port)
    listening = _listen(settings.host, settings.port)
    with _plain_troubles():
        _begin(settings, with_parent)
        from app.main import create_app
        from app.serving import Stopping, serve_until_told

        stopping = Stopping()
        url = _address(listening)
        serve_until_told(
            create_app(settings, worker=worker, stopping=stopping),
            listening,
            DRAIN_SECONDS,
            started=lambda: _say(f"navcrm answers at {url}/api/v1; its documentation is at {url}/docs."),
            stopping=stopping,
            notice_seconds=settings.stop_notice_seconds,
        )


@app.command("worker")
def work(
    port: Annotated[
        int | None,
        typer.Option(help="Port for /healthz, /readyz and /metrics; default NAVCRM_WORKER_PORT, or none."),
    ] = None,
) -> None:
    """Run synch jobs until told to stop; as many workers as you like may share a database."""
    settings = _settings(worker_port=port)
    probed = settings.worker_port is not None
    listening = _listen(settings.host, settings.worker_port or 0) if probed else None
    with _plain_troubles():
        _begin(settings)
        from app.probes import probed_worker
        from app.wiring import open_parts

        async def run() -> None:
            async with open_parts(settings) as parts:
                if listening is not None:
                    _say(f"The worker tells how it fares at {_address(listening)}/readyz and /metrics.")
                await probed_worker(parts, listening)

        asyncio.run(run())


@app.command()
def healthcheck(
    port: Annotated[
        int | None, typer.Option(help="Port of the API or the worker; default NAVCRM_PORT.")
    ] = None,
) -> None:
    """Ask whether the process on this machine lives: exit code 0 when it does, 1 when not."""
    import urllib.error
    import urllib.request

    settings = _settings(port=port)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - not bound to
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{host}:{settings.port}/healthz", timeout=2):
            pass
    except (urllib.error.URLError, OSError) as error:
        _fail(f"Nothing healthy answers on port {settings.port} ({error}).")
    _say("It lives.")


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = _settings()
    with _plain_troubles():
        from app.db.embedded import embedded_unless_named
        from app.db.migrate import upgrade

        embedded = embedded_unless_named(settings)
        try:
            named = settings.database_url.get_secret_value() if settings.database_url else None
            asyncio.run(upgrade(named or (embedded.url if embedded else "")))
        finally:
            if embedded is not None:
                embedded.stop()
        _say("The database has the newest schema.")


@app.command("rotate-secrets")
def rotate_secrets() -> None:
    """Encrypt every stored secret with the first of NAVCRM_SECRET_KEYS, so that the others can be taken out."""
    settings = _settings()
    with _plain_troubles():
        _begin(settings)
        from app.wiring import rotate_secrets

        done = asyncio.run(rotate_secrets(settings))
    _say(f"{done.rotated} secrets were encrypted with the first key.")
    if done.unreadable:
        unreadable = ", ".join(done.unreadable)
        _fail(f"None of the keys reads the secrets of {unreadable}. Add the missing key, or save them again.")
    _say("The other keys can be taken out as soon as every process runs with this one as its first.")


@app.command()
def demo(
    exit_afterwards: Annotated[bool, typer.Option("--exit", help="End when the story is told.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Where the demo keeps its database; default: `demo` in NAVCRM_DATA_DIR."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with an empty database.")] = False,
    port: Annotated[int, typer.Option(help="Port of the service; the next free one if it is in use.")] = 8000,
    crm_port: Annotated[int, typer.Option(help="Port of the sandbox CRM, likewise.")] = 8080,
) -> None:
    """Run the service with a sandbox CRM and the CRONUS company, and synchronize them."""
    if sys.platform == "win32":
        _fail("The demo needs Unix, as its PostgreSQL does. On Windows, run it in WSL.")
    settings = _settings()
    with _plain_troubles():
        from app.demo.run import run_demo

        folder = (data_dir or settings.data_dir / "demo").expanduser().absolute()
        raise typer.Exit(
            run_demo(folder, fresh=fresh, port=port, crm_port=crm_port, stay=not exit_afterwards)
        )


@app.command("crm-sandbox")
def crm_sandbox(
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    certificate: Annotated[Path | None, typer.Option(help="PEM certificate, to serve https.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    tenant_id: Annotated[str | None, typer.Option(help="Tenant of the token endpoint.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Application that may log in.")] = None,
    client_secret: Annotated[str | None, typer.Option(help="Its secret.")] = None,
    with_parent: WithParent = False,
) -> None:
    """Serve a CRM to try things on: the Dataverse Web API over rows in memory."""
    if (certificate is None) != (key is None):
        _fail("Give --certificate and --key together, or neither of them.")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            _fail(f"There is no file {path}.")
    for name, given in (("--tenant-id", tenant_id), ("--client-id", client_id)):
        if given is not None and not _is_guid(given):
            _fail(
                f"{name} is a GUID in Microsoft Entra; {given!r} is none. Left out, the sandbox has its own."
            )
    listening = _listen(host, port)
    with _plain_troubles():
        from app import sandbox
        from app.sandbox.server import server

        if with_parent:
            _end_with_parent()
        tenant = tenant_id or sandbox.DEFAULT_TENANT
        client = client_id or sandbox.DEFAULT_CLIENT
        secret = client_secret or sandbox.DEFAULT_SECRET
        organization = sandbox.create_sandbox(tenant_id=tenant, client_id=client, client_secret=secret)
        url = _address(listening, "https" if certificate else "http")
        shown = "the secret you gave" if client_secret else secret
        _say(f"The sandbox CRM answers at {url}/api/data/v9.2; it forgets everything when it ends.")
        _say(f"Log in with tenant_id {tenant}, client_id {client}, client_secret: {shown}.")
        _exit_cleanly_on_sigterm()
        server(organization, host, port, certificate, key).run(sockets=[listening])


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write the OpenAPI document."""
    with _plain_troubles():
        import json

        from app.main import openapi_document

        text = json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")


@app.command("crm-solution")
def crm_solution(
    output: Annotated[Path, typer.Option(help="The zip file to write.")],
    public_url: Annotated[
        str | None,
        typer.Option(help="Where people's browsers reach the service; default: NAVCRM_PUBLIC_URL."),
    ] = None,
    sales: Annotated[
        bool, typer.Option(help="Whether the organization has Sales and Customer Service.")
    ] = True,
) -> None:
    """Write the solution to import into CRM: the button to NAV and the account statistics."""
    from importlib.metadata import version

    from app.solution import build

    url = public_url or _settings().public_url
    try:
        content = build(version("navcrm"), url, sales=sales)
    except ValueError as error:
        _fail(f"The public URL cannot be used: {error}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        _fail(f"Cannot write {output} ({error.strerror}).")
    _say(f"{output} is written; import it into CRM under Solutions, and publish all customizations.")
    if url is None:
        _say("It names no address of this service, so each NAV Connection in CRM has to: see --public-url.")


# --- keys ---------------------------------------------------------------------------------------------


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="read, sync or admin; may be repeated.")],
    company: Annotated[
        list[str] | None, typer.Option(help="Bind the key to this company; may be repeated.")
    ] = None,
    expires_in_days: Annotated[int | None, typer.Option(min=1, help="Default: never.")] = None,
    email: Annotated[
        str | None, typer.Option(help="By which CRM knows who uses the key, where callers must be CRM users.")
    ] = None,
) -> None:
    """Make a key and print it, this once."""
    from datetime import UTC, datetime, timedelta

    from app.domain.access import Scope
    from app.use_cases.api_keys import create_api_key

    unknown = [given for given in scope if given not in set(Scope)]
    if unknown:
        _fail(f"There is no scope {unknown[0]}: it is read, sync or admin.")
    expiry = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None

    async def create(ctx: Any) -> str:
        _, token = await create_api_key(ctx, name, [Scope(s) for s in scope], company or None, expiry, email)
        return token

    print(_with_context(create))


@keys.command("list")
def list_keys() -> None:
    """List the keys that were not revoked."""

    async def page(ctx: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            async with ctx.uow() as tx:
                more = await tx.api_keys.page(found[-1].id if found else None, 200)
            found += more
            if len(more) < 200:
                return found

    for key in _with_context(page):
        companies = ", ".join(key.companies) if key.companies else "every company"
        expiry = f"expires {key.expires_at:%Y-%m-%d}" if key.expires_at else "never expires"
        print(f"{key.id}  {key.prefix}…  {key.name}  ({' '.join(sorted(key.scopes))}; {companies}; {expiry})")


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Make a key stop working at once."""
    from uuid import UUID

    from app.use_cases.api_keys import revoke_api_key

    try:
        wanted = UUID(key_id)
    except ValueError:
        _fail(f"'{key_id}' is no id of a key; `navcrm api-key list` shows them.")
    _with_context(lambda ctx: revoke_api_key(ctx, wanted))
    _say("The key no longer works.")


def _with_context(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What `work` answers, given the database of the settings."""
    settings = _settings()
    with _plain_troubles():
        _begin(settings)
        from app.wiring import open_parts

        async def run() -> T:
            async with open_parts(settings) as parts:
                return await work(parts.context)

        return asyncio.run(run())


# --- settings, signals, troubles ----------------------------------------------------------------------


def _settings(**given: Any) -> "Settings":
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # The values stay out of it: one of them may be a secret.
        names = {str(problem["loc"][0]): problem["msg"] for problem in error.errors() if problem["loc"]}
        told = "; ".join(f"NAVCRM_{name.upper()}: {message}" for name, message in names.items())
        _fail(f"The settings cannot be used. {told}. `.env.example` shows what each takes.")


def _begin(settings: "Settings", with_parent: bool = False) -> None:
    from app.logs import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    if with_parent:
        _end_with_parent()
    _exit_cleanly_on_sigterm()


def _exit_cleanly_on_sigterm() -> None:
    """uvicorn raises the signal again after it has closed everything; being told to stop is no failure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _end_with_parent() -> None:
    """Stops this process as soon as the one that started it lets go of our standard input, however it ended."""
    import os
    import threading

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _listen(host: str, port: int) -> "socket.socket":
    import socket

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        _fail(
            f"Cannot listen on {host}:{port} ({error.strerror}). End the program that does, or choose another --port."
        )
    return listening


def _address(listening: "socket.socket", scheme: str = "http") -> str:
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _say(text: str) -> None:
    print(text, flush=True)


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _fail(sentence: str) -> NoReturn:
    print(f"navcrm: {sentence}", file=sys.stderr)
    raise typer.Exit(1)


@contextmanager
def _plain_troubles() -> Iterator[None]:
    """What can be expected to go wrong, as one sentence and exit code 1."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        _fail(sentence)


def _sentence(error: Exception) -> str | None:
    """What to tell about an error and how it is mended; None for one that nobody expects."""
    from asyncpg import PostgresError
    from sqlalchemy.exc import ArgumentError, DBAPIError

    from app.db.embedded import EmbeddedPostgresError
    from app.domain.errors import IntegrationError
    from app.settings import SettingsRefused
    from app.telemetry.tracing import TracingUnavailable

    match error:
        case SettingsRefused() | TracingUnavailable() | EmbeddedPostgresError():
            return str(error)
        case IntegrationError():
            return f"{error.detail} {error.fix or ''}".strip()
        case ArgumentError():
            return "NAVCRM_DATABASE_URL is no address of a PostgreSQL: it begins with postgresql://."
        case ValueError() if "database address" in str(error):
            return f"NAVCRM_DATABASE_URL cannot be used. {error}"
        case PostgresError() | DBAPIError() | OSError() | TimeoutError():
            return (
                f"The database does not answer ({type(error).__name__}: {_first_line(error)}). "
                "Check NAVCRM_DATABASE_URL and that the server runs, or unset it to use the embedded database."
            )
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0]


if __name__ == "__main__":
    main()
