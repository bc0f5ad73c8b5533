"""From the address of a request to its operation without asking every operation whether it is the one."""

from collections import defaultdict
from collections.abc import Iterable

from fastapi import APIRouter, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.operation import Handler, Operation


class Directory:
    """ASGI middleware that lets operations answer, found by method and number of segments, in their order.

    What it does not know, such as a method that an address does not have, and what answers by a stream, are the
    application's to answer. Parameters hold no slashes (`paths.py`).
    """

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self.app = app
        self._by_shape: dict[tuple[str, int], list[tuple[Operation, Handler]]] = defaultdict(list)
        for operation in (
            each for router in routers for each in router.routes if isinstance(each, Operation)
        ):
            handler = operation.get_route_handler()
            for method in operation.methods or ():
                shape = method, operation.path_format.count("/")
                self._by_shape[shape].append((operation, handler))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handle = self._find(scope) if scope["type"] == "http" else None
        if handle is None:
            await self.app(scope, receive, send)
        else:
            answer = await handle(Request(scope, receive, send))
            await answer(scope, receive, send)

    def _find(self, scope: Scope) -> Handler | None:
        """What carries out the operation that the request is for; the operation becomes a part of the scope."""
        path = scope["path"]
        for operation, handler in self._by_shape.get((scope["method"], path.count("/")), ()):
            if found := operation.path_regex.match(path):
                if operation.is_sse_stream:
                    return None
                convertors = operation.param_convertors
                scope["path_params"] = {
                    name: convertors[name].convert(value) for name, value in found.groupdict().items()
                }
                scope["endpoint"], scope["route"] = operation.endpoint, operation
                return handler
        return None
