"""Real servers for tests: an ASGI application behind uvicorn, in a thread of this process, on a free port."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.sandbox.server import server

START_SECONDS = 60
STOP_SECONDS = 60
IDLE_SECONDS = 600
"""How long a server keeps a connection that nobody uses: longer than any client here, which so never sends a request
on one that is just being closed."""


@contextmanager
def run_in_thread(app: Any, tls: tuple[Path, Path] | None = None) -> Iterator[str]:
    """Serve an application as long as the block lasts; gives its base URL.

    Args:
        app: any ASGI application.
        tls: paths of a PEM certificate and its key, as `app.sandbox.server.self_signed` makes them.
    """
    certfile, keyfile = tls or (None, None)
    uvicorn_server = server(app, certfile=certfile, keyfile=keyfile)
    uvicorn_server.config.timeout_keep_alive = IDLE_SECONDS
    thread = threading.Thread(target=uvicorn_server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not uvicorn_server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise RuntimeError("The server did not start.")
            time.sleep(0.01)
        port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
        yield f"{'https' if tls else 'http'}://localhost:{port}"
    finally:
        uvicorn_server.should_exit = True
        thread.join(STOP_SECONDS)
