"""Door three: `navcrm serve`, `worker`, `healthcheck`, `migrate`, `rotate-secrets`, `demo`, `crm-sandbox`,
`crm-solution`, `api-key`, `openapi`.

What a command needs is imported inside it, so that `navcrm --help` answers at once.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from app.console import (
    address,
    begin,
    collect_seldom,
    end_with_parent,
    exit_cleanly_on_sigterm,
    fail,
    is_guid,
    listen,
    plain_troubles,
    read_settings,
    say,
    with_context,
)

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
    settings = read_settings(host=host, port=port)
    listening = listen(settings.host, settings.port)
    with plain_troubles():
        begin(settings, with_parent)
        from app.main import create_app
        from app.serving import Stopping, serve_until_told

        collect_seldom()
        stopping = Stopping()
        url = address(listening)
        serve_until_told(
            create_app(settings, worker=worker, stopping=stopping),
            listening,
            DRAIN_SECONDS,
            started=lambda: say(f"navcrm answers at {url}/api/v1; its documentation is at {url}/docs."),
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
    settings = read_settings(worker_port=port)
    probed = settings.worker_port is not None
    listening = listen(settings.host, settings.worker_port or 0) if probed else None
    with plain_troubles():
        begin(settings)
        from app.probes import probed_worker
        from app.wiring import open_parts

        collect_seldom()

        async def run() -> None:
            async with open_parts(settings) as parts:
                if listening is not None:
                    say(f"The worker tells how it fares at {address(listening)}/readyz and /metrics.")
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

    settings = read_settings(port=port)
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - not bound to
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{host}:{settings.port}/healthz", timeout=2):
            pass
    except (urllib.error.URLError, OSError) as error:
        fail(f"Nothing healthy answers on port {settings.port} ({error}).")
    say("It lives.")


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = read_settings()
    with plain_troubles():
        from app.db.embedded import embedded_unless_named
        from app.db.migrate import upgrade

        embedded = embedded_unless_named(settings)
        try:
            named = settings.database_url.get_secret_value() if settings.database_url else None
            asyncio.run(upgrade(named or (embedded.url if embedded else "")))
        finally:
            if embedded is not None:
                embedded.stop()
        say("The database has the newest schema.")


@app.command("rotate-secrets")
def rotate_secrets() -> None:
    """Encrypt every stored secret with the first of NAVCRM_SECRET_KEYS, so that the others can be taken out."""
    settings = read_settings()
    with plain_troubles():
        begin(settings)
        from app.wiring import rotate_secrets

        done = asyncio.run(rotate_secrets(settings))
    say(f"{done.rotated} secrets were encrypted with the first key.")
    if done.unreadable:
        unreadable = ", ".join(done.unreadable)
        fail(f"None of the keys reads the secrets of {unreadable}. Add the missing key, or save them again.")
    say("The other keys can be taken out as soon as every process runs with this one as its first.")


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
        fail("The demo needs Unix, as its PostgreSQL does. On Windows, run it in WSL.")
    settings = read_settings()
    with plain_troubles():
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
        fail("Give --certificate and --key together, or neither of them.")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            fail(f"There is no file {path}.")
    for name, given in (("--tenant-id", tenant_id), ("--client-id", client_id)):
        if given is not None and not is_guid(given):
            fail(
                f"{name} is a GUID in Microsoft Entra; {given!r} is none. Left out, the sandbox has its own."
            )
    listening = listen(host, port)
    with plain_troubles():
        from app import sandbox
        from app.sandbox.server import server

        if with_parent:
            end_with_parent()
        tenant = tenant_id or sandbox.DEFAULT_TENANT
        client = client_id or sandbox.DEFAULT_CLIENT
        secret = client_secret or sandbox.DEFAULT_SECRET
        organization = sandbox.create_sandbox(tenant_id=tenant, client_id=client, client_secret=secret)
        url = address(listening, "https" if certificate else "http")
        shown = "the secret you gave" if client_secret else secret
        say(f"The sandbox CRM answers at {url}/api/data/v9.2; it forgets everything when it ends.")
        say(f"Log in with authority {url}, tenant_id {tenant}, client_id {client}, client_secret: {shown}.")
        exit_cleanly_on_sigterm()
        listening.listen()  # whoever reads where it answers may be quicker than the server
        server(organization, host, port, certificate, key).run(sockets=[listening])


@app.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
) -> None:
    """Write the OpenAPI document."""
    with plain_troubles():
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

    url = public_url or read_settings().public_url
    try:
        content = build(version("navcrm"), url, sales=sales)
    except ValueError as error:
        fail(f"The public URL cannot be used: {error}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        fail(f"Cannot write {output} ({error.strerror}).")
    say(f"{output} is written; import it into CRM under Solutions, and publish all customizations.")
    if url is None:
        say("It names no address of this service, so each NAV Connection in CRM has to: see --public-url.")


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
        fail(f"There is no scope {unknown[0]}: it is read, sync or admin.")
    expiry = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days else None

    async def create(ctx: Any) -> str:
        _, token = await create_api_key(ctx, name, [Scope(s) for s in scope], company or None, expiry, email)
        return token

    print(with_context(create))


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

    for key in with_context(page):
        companies = ", ".join(key.companies) if key.companies else "every company"
        expiry = f"expires {key.expires_at:%Y-%m-%d}" if key.expires_at else "never expires"
        print(f"{key.id}  {key.prefix}…  {key.name}  ({' '.join(sorted(key.scopes))}; {companies}; {expiry})")


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Make a key stop working at once."""

    from app.use_cases.api_keys import revoke_api_key

    try:
        wanted = UUID(key_id)
    except ValueError:
        fail(f"'{key_id}' is no id of a key; `navcrm api-key list` shows them.")
    with_context(lambda ctx: revoke_api_key(ctx, wanted))
    say("The key no longer works.")


if __name__ == "__main__":
    main()
