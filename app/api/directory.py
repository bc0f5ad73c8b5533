"""From the address of a request to its operation without asking every operation whether it is the one."""

from collections import defaultdict
from collections.abc import Iterable

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.api.operation import Operation


class Directory(BaseRoute):
    """The operations by method and number of segments, in their order. It goes before all other routes; what it does
    not know, such as a method that an address does not have, is theirs to answer.
    """

    def __init__(self, operations: Iterable[APIRoute]) -> None:
        self._by_shape: dict[tuple[str, int], list[APIRoute]] = defaultdict(list)
        for each in operations:
            for method in each.methods or ():
                self._by_shape[method, each.path_format.count("/")].append(each)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The operation that the request is for, as its part of the scope."""
        if scope["type"] == "http":
            path = scope["path"]
            for each in self._by_shape.get((scope["method"], path.count("/")), ()):
                if found := each.path_regex.match(path):
                    named = found.groupdict().items()
                    parameters = {name: each.param_convertors[name].convert(value) for name, value in named}
                    return Match.FULL, {"endpoint": each.endpoint, "path_params": parameters, "route": each}
        return Match.NONE, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the operation answer."""
        await scope["route"].handle(scope, receive, send)


def install(app: FastAPI) -> None:
    """Puts the operations that the app has so far into a directory. Their parameters hold no slashes (`paths.py`)."""
    found = (each.original_route for each in iter_route_contexts(app.router.routes))
    app.router.routes.insert(0, Directory(each for each in found if isinstance(each, Operation)))
