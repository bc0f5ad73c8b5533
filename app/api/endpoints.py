"""What the endpoint of an operation is called with, taken from the request.

FastAPI says what an endpoint and its dependencies take, and describes it in the OpenAPI document. With every request it
asks anew what kind of thing each of them is, which takes longer than all else in reading a record. None of that changes
while the service runs, so here it is asked once. What is valid, and what is told of what is not, is FastAPI's to say,
as ever.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, get_args, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

Call = Callable[..., Awaitable[Any]]

SEVERAL = (list, set, frozenset, tuple)
ABSENT: Any = object()
"""The body of a request without one; null would be something."""

_UNKNOWN = (
    "cookie_params",
    "http_connection_param_name",
    "websocket_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
    "concurrency",
)


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter, or the body. `place` is where it stands: in the path, the query, the header or the body."""

    name: str
    alias: str
    place: tuple[str, ...]
    is_needed: bool
    default: Callable[[], Any]
    validate: Callable[..., tuple[Any, list[Any]]]

    def read(self, given: Any, values: dict[str, Any], errors: list[Any]) -> None:
        """Adds its value to the values, or what is wrong with it to the errors."""
        if given is not ABSENT:
            value, wrong = self.validate(given, loc=self.place)
            if wrong:
                errors += wrong
            else:
                values[self.name] = value
        elif self.is_needed:
            errors.append({"type": "missing", "loc": self.place, "msg": "Field required", "input": None})
        else:
            values[self.name] = self.default()


@dataclass(frozen=True, slots=True)
class _Step:
    """A coroutine and what it takes by name: what is known already, parameters, the body."""

    call: Call
    known: tuple[tuple[str, Any], ...]
    parameters: tuple[_Parameter, ...]
    body: tuple[_Parameter, ...]

    def values(
        self, known: Mapping[Any, Any], sources: Mapping[str, Mapping[str, Any]], body: Any, errors: list[Any]
    ) -> dict[str, Any] | None:
        """What it is called with; None where something is wrong with that, or with what it depends on."""
        so_far = len(errors)
        values = {name: known[place] for name, place in self.known if place in known}
        is_complete = len(values) == len(self.known)
        for each in self.parameters:
            each.read(sources[each.place[0]].get(each.alias, ABSENT), values, errors)
        for each in self.body:
            each.read(body, values, errors)
        return values if is_complete and len(errors) == so_far else None


class Endpoint:
    """An endpoint with its dependencies, each of them called once a request, in the order in which they are named."""

    def __init__(self, dependant: Dependant) -> None:
        """Raises TypeError for what no operation has needed so far."""
        steps = {each.call: each for each in _steps(dependant)}
        *self._dependencies, self._endpoint = steps.values()

    async def __call__(self, request: Request, body: Any) -> tuple[Any, Response]:
        """What the endpoint answers, and the status (0: the usual one) and the headers that it asked for besides.

        Raises what they raise, and RequestValidationError with all that is wrong with the request.
        """
        besides = Response(status_code=0)
        query = request.query_params if request.scope["query_string"] else {}
        sources = {"path": request.path_params, "query": query, "header": request.headers}
        known: dict[Any, Any] = {Request: request, Response: besides}
        errors: list[Any] = []
        for step in self._dependencies:
            values = step.values(known, sources, body, errors)
            if values is not None:
                known[step.call] = await step.call(**values)
        values = self._endpoint.values(known, sources, body, errors)
        if values is None:
            raise RequestValidationError(errors, body=None if body is ABSENT else body)
        return await self._endpoint.call(**values), besides


def _steps(dependant: Dependant) -> Iterator[_Step]:
    """The dependencies before what depends on them."""
    for each in dependant.dependencies:
        yield from _steps(each)
    call = dependant.call
    if not iscoroutinefunction(call) or any(getattr(dependant, name) for name in _UNKNOWN):
        raise TypeError(f"{call} is no coroutine, or takes what endpoints.py does not know.")
    if len(dependant.body_params) > 1 or any(map(_takes_several, dependant.query_params)):
        raise TypeError(
            f"{call} takes parts of a body, or a parameter several times: endpoints.py knows neither."
        )
    known = [(each.name, each.call) for each in dependant.dependencies]
    known += [(dependant.request_param_name, Request), (dependant.response_param_name, Response)]
    yield _Step(
        call,
        tuple((name, place) for name, place in known if name is not None),
        (
            *(_parameter(each, "path") for each in dependant.path_params),
            *(_parameter(each, "query") for each in dependant.query_params),
            *(_parameter(each, "header") for each in dependant.header_params),
        ),
        tuple(_parameter(each, "body") for each in dependant.body_params),
    )


def _takes_several(field: Any) -> bool:
    """Whether a parameter collects all values that are given for it."""
    wanted = field.field_info.annotation
    return any(get_origin(each) in SEVERAL or each in SEVERAL for each in (wanted, *get_args(wanted)))


def _parameter(field: Any, source: str) -> _Parameter:
    """A parameter as FastAPI describes it."""
    alias = field.validation_alias or field.alias
    place = (source,) if source == "body" else (source, alias)
    is_needed = field.field_info.is_required()
    return _Parameter(field.name, alias, place, is_needed, field.get_default, field.validate)
