"""Which kind of job calls which use case."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from app.ports import Handler


def registry(*entries: tuple[Iterable[str], Handler]) -> Mapping[str, Handler]:
    """Kind -> handler, out of handlers and the kinds each carries out. A kind has one handler."""
    handlers: dict[str, Handler] = {}
    for kinds, handler in entries:
        for kind in kinds:
            if kind in handlers:
                raise ValueError(f"Two handlers carry out {kind}.")
            handlers[kind] = handler
    return MappingProxyType(handlers)
