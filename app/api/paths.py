"""Keys in paths: a NAV number may hold a slash, so a path is cut into segments before it is decoded.

Servers decode the path first, which turns `/nav/customers/K%26M%2F01/coupling` into one segment too many. `Segments`
decodes each segment by itself and leaves the two characters that routing cannot carry, `/` and `%`, encoded; a
parameter written `{no:key}` decodes them at last.
"""

from urllib.parse import unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import ASGIApp, Receive, Scope, Send


class KeyConvertor(Convertor[str]):
    """A path parameter that may hold any character."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """The key as it was before it was encoded."""
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        """The key as it stands in `Segments`' paths."""
        return value.replace("%", "%25").replace("/", "%2F")


def register() -> None:
    """Lets routes say `{no:key}`."""
    register_url_convertor("key", KeyConvertor())


class Segments:
    """ASGI middleware that gives routing the path segment by segment."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes | None = scope.get("raw_path")
        if scope["type"] == "http" and raw is not None and b"%" in raw:
            key = KeyConvertor()
            segments = raw.decode("latin-1").split("/")
            scope = {**scope, "path": "/".join(key.to_string(unquote(segment)) for segment in segments)}
        await self.app(scope, receive, send)
