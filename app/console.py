"""What every command does: read the settings, listen, tell, and put troubles into a sentence.

What is needed is imported inside, so that `navcrm --help` answers at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import UUID

import typer

if TYPE_CHECKING:
    import socket

    from app.settings import Settings

T = TypeVar("T")


def with_context(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """What `work` answers, given the database of the settings."""
    settings = read_settings()
    with plain_troubles():
        begin(settings)
        from app.wiring import open_parts

        async def run() -> T:
            async with open_parts(settings) as parts:
                return await work(parts.context)

        return asyncio.run(run())


def read_settings(**given: Any) -> "Settings":
    """The settings of the environment, with what the command line says. Ends the command where they cannot be used."""
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        # The values stay out of it: one of them may be a secret.
        names = {str(problem["loc"][0]): problem["msg"] for problem in error.errors() if problem["loc"]}
        told = "; ".join(f"NAVCRM_{name.upper()}: {message}" for name, message in names.items())
        fail(f"The settings cannot be used. {told}. `.env.example` shows what each takes.")


def begin(settings: "Settings", with_parent: bool = False) -> None:
    """Logs and signals, before anything runs; `with_parent` ends with the process that started this one."""
    from app.logs import configure_logs

    configure_logs(settings.log_level, settings.log_format)
    if with_parent:
        end_with_parent()
    exit_cleanly_on_sigterm()


def collect_seldom() -> None:
    """Looks for garbage in cycles after a hundred thousand new objects instead of seven hundred, and never among the
    modules.

    The sets that a run has under way are a hundred thousand objects without a cycle: looking through them again and
    again took a quarter of the CPU of a run, and at every ten thousand objects a tenth of it still. To be called when
    everything is imported.
    """
    import gc

    gc.freeze()
    gc.set_threshold(100_000, 5, 5)


def exit_cleanly_on_sigterm() -> None:
    """uvicorn raises the signal again after it has closed everything; being told to stop is no failure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def end_with_parent() -> None:
    """Stops this process as soon as the one that started it lets go of our standard input, however it ended."""
    import os
    import threading

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def listen(host: str, port: int) -> "socket.socket":
    """A socket that listens there. Ends the command where that is not possible."""
    import socket

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        fail(
            f"Cannot listen on {host}:{port} ({error.strerror}). End the program that does, or choose another --port."
        )
    return listening


def address(listening: "socket.socket", scheme: str = "http") -> str:
    """The address of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def say(text: str) -> None:
    """Tells the one who gave the command."""
    print(text, flush=True)


def is_guid(text: str) -> bool:
    """Whether the text is an id."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def fail(sentence: str) -> NoReturn:
    """Ends the command with a sentence and exit code 1."""
    print(f"navcrm: {sentence}", file=sys.stderr)
    raise typer.Exit(1)


@contextmanager
def plain_troubles() -> Iterator[None]:
    """What can be expected to go wrong, as one sentence and exit code 1."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        fail(sentence)


def _sentence(error: Exception) -> str | None:
    """What to tell about an error and how it is mended; None for one that nobody expects."""
    from asyncpg import PostgresError
    from sqlalchemy.exc import ArgumentError, DBAPIError

    from app.db.embedded import EmbeddedPostgresError
    from app.db.migrate import SchemaNewer
    from app.domain.errors import IntegrationError
    from app.settings import SettingsRefused
    from app.telemetry.tracing import TracingUnavailable

    match error:
        case SettingsRefused() | TracingUnavailable() | EmbeddedPostgresError() | SchemaNewer():
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
