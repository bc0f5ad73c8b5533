"""Logs: one line per event on standard error, for people or as JSON."""

import json
import logging
import sys
from typing import Any, Literal

import structlog

QUIET = ("httpx", "httpcore", "alembic", "asyncio", "uvicorn.access", "pgqueuer", "sqlalchemy")
"""Libraries whose everyday messages would repeat what we log ourselves."""
SEVERAL_LINES = frozenset({"event", "stack", "exception"})
"""What of a line of the log may have several."""


def _printable(_: Any, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What callers and other systems sent cannot move the cursor of whoever reads the log, or begin a line."""
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n\t" if name in SEVERAL_LINES else ""
            line[name] = "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in value)
    return line


def _print_safe_json(line: structlog.typing.EventDict, **options: Any) -> str:
    """The line as JSON, with an escape for whatever would move the cursor of whoever reads it: JSON by itself has them
    for the older of such characters alone. Letters stay letters."""
    text = json.dumps(line, ensure_ascii=False, **options)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return text


def configure_logs(level: Literal["debug", "info", "warning", "error"], style: str) -> None:
    """Sets up the logs of this process, those of the libraries too. `style` is `console` or `json`.

    Tracebacks never show local variables: they may hold secrets.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    ending: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer(_print_safe_json)]
        if style == "json"
        else [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    structlog.configure(
        processors=[*common, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=common, processors=[remove, *ending])
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
