"""ETag, If-Match and If-None-Match on configuration resources."""

import hashlib
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from app.domain.errors import PreconditionFailed

WILDCARD = "*"


def of_revision(revision: int) -> str:
    """The tag of a resource that counts its changes."""
    return f'"{revision}"'


def of_revisions(*revisions: int) -> str:
    """The tag of what is shown out of several resources that count their changes."""
    return f'"{".".join(map(str, revisions))}"'


def of_content(model: BaseModel) -> str:
    """The tag of a resource that is known by what it shows."""
    return f'"{hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:20]}"'


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",") if tag.strip()}


class Preconditions:
    """The preconditions of a request, and where the tag of its answer goes."""

    def __init__(
        self, request: Request, response: Response, if_match: str | None, if_none_match: str | None
    ) -> None:
        self.request = request
        self.response = response
        self.if_match = if_match
        self.if_none_match = if_none_match

    def require(self, tag: str | None) -> None:
        """Raises PreconditionFailed when the caller last read something else; `tag` None: there is nothing."""
        if self.if_match is not None:
            wanted = _tags(self.if_match)
            if tag is None or (WILDCARD not in wanted and tag not in wanted):
                raise PreconditionFailed(
                    f"If-Match is {self.if_match}, the present ETag is {tag or 'none'}.",
                    fix=f"GET {self.request.scope['path']}, then repeat the change with its ETag.",
                )
        if self.if_none_match is not None and self.request.method != "GET" and tag is not None:
            unwanted = _tags(self.if_none_match)
            if WILDCARD in unwanted or tag in unwanted:
                raise PreconditionFailed(f"If-None-Match is {self.if_none_match}, and it exists as {tag}.")

    def revision(self, tag: str, revision: int) -> int | None:
        """The revision that a change must find, None for whichever. Raises PreconditionFailed."""
        self.require(tag)
        return None if self.if_match is None else revision

    def answer(self, body: Any, tag: str | None) -> Any:
        """The answer with its tag; 304 for the caller of a GET that has this state already.

        A preview carries the tag of what is there, None for nothing: the one that its own state would have had will be
        that of whatever is changed next.
        """
        if tag is None:
            return body
        self.response.headers["ETag"] = tag
        if self.request.method == "GET" and self.if_none_match is not None:
            known = _tags(self.if_none_match)
            if WILDCARD in known or tag in known:
                return Response(status_code=304, headers={"ETag": tag})
        return body


async def _preconditions(
    request: Request,
    response: Response,
    if_match: Annotated[str | None, Header(description="Only if the resource still has this ETag.")] = None,
    if_none_match: Annotated[str | None, Header(description="Only if the resource has another ETag.")] = None,
) -> Preconditions:
    return Preconditions(request, response, if_match, if_none_match)


PreconditionsDep = Annotated[Preconditions, Depends(_preconditions)]
