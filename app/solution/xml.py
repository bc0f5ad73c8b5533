"""XML elements, written in the order they are asked for, and the same text for the same elements."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, indent, tostring

from app.solution.names import LANGUAGE

SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
NIL = {"xsi:nil": "true"}


def node(
    tag: str,
    children: Iterable[Element] = (),
    /,
    *,
    text: str | None = None,
    attributes: dict[str, str] | None = None,
) -> Element:
    """An element with its children, or with a text."""
    made = Element(tag, attributes or {})
    made.text = text
    made.extend(list(children))
    return made


def values(**texts: str | int) -> list[Element]:
    """One element per name, in this order, holding its value."""
    return [node(name, text=str(text)) for name, text in texts.items()]


def labels(group: str, item: str, text: str) -> Element:
    """A text as people see it, in the language of the solution."""
    return node(group, [node(item, attributes={"description": text, "languagecode": str(LANGUAGE)})])


def document(root: Element) -> bytes:
    """The file, in UTF-8."""
    indent(root, " ")
    content: bytes = tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + content + b"\n"
