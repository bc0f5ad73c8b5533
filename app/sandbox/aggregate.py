"""`$apply`: filter, groupby and aggregate."""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from app.sandbox import query
from app.sandbox.addresses import Context, split
from app.sandbox.errors import DataverseError, query_error
from app.sandbox.metadata import Table
from app.sandbox.storage import Row

MAXIMUM_INPUT = 50_000
_STEP = re.compile(r"(filter|groupby|aggregate)\((.*)\)", re.DOTALL)
_METHODS: dict[str, Callable[[list[Any]], Any]] = {
    "sum": lambda values: sum(values) if values else None,
    "average": lambda values: sum(values) / Decimal(len(values)) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}


def answer(context: Context, table: Table, options: dict[str, str]) -> dict[str, Any]:
    """The content of an aggregated collection.

    Raises:
        DataverseError: 400, for what cannot be understood, and above 50,000 input rows.
    """
    if "$orderby" in options:
        raise query_error("$orderby is not supported together with aggregates.")
    filters = [options["$filter"]] if "$filter" in options else []
    groups: list[str] = []
    aggregates: list[str] = []
    for step in split(options["$apply"], "/"):
        match = _STEP.fullmatch(step.strip())
        if match is None:
            raise query_error(f"The transformation '{step}' is not supported.")
        match match[1]:
            case "filter":
                filters.append(match[2])
            case "aggregate":
                aggregates = list(split(match[2], ","))
            case _:
                groups, aggregates = _grouping(match[2])
    rows = _input(context, table, filters)
    value = _grouped(context, table, rows, groups, aggregates)
    return {"@odata.context": f"{context.api}/$metadata#{table.set_name}", "value": value}


def _grouping(text: str) -> tuple[list[str], list[str]]:
    columns, *rest = split(text, ",")
    names = [name.strip() for name in columns.strip()[1:-1].split(",")]
    inner = ",".join(rest).strip()
    return names, list(split(inner[len("aggregate(") : -1], ",")) if inner.startswith("aggregate(") else []


def _input(context: Context, table: Table, filters: list[str]) -> list[Row]:
    options = {"$filter": " and ".join(f"({text})" for text in filters)} if filters else {}
    rows = []
    for _, row in query.prepare(context, table, options).rows():
        rows.append(row)
        if len(rows) > MAXIMUM_INPUT:
            raise DataverseError(
                400,
                "0x8004e023",
                "The maximum record limit is exceeded. Reduce the number of records.",
            )
    return rows


def _grouped(
    context: Context, table: Table, rows: Iterable[Row], groups: list[str], aggregates: list[str]
) -> list[dict[str, Any]]:
    for name in groups:
        if query.attribute_at(context, table, name).type == "DateTime":
            raise query_error("Grouping by a date is not supported.")
    accessors = [query.accessor(context, table, name) for name in groups]
    buckets: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        buckets.setdefault(tuple(get(row) for get in accessors), []).append(row)
    if not groups:
        buckets.setdefault((), [])
    names = [_output_name(context, table, name) for name in groups]
    return [
        _computed(context, table, members, aggregates) | dict(zip(names, key, strict=True))
        for key, members in buckets.items()
    ]


def _output_name(context: Context, table: Table, path: str) -> str:
    head, slash, rest = path.partition("/")
    if not slash:
        return path
    return f"{table.singles[head].target}_{rest}" if head in table.singles else path


def _computed(context: Context, table: Table, rows: list[Row], aggregates: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for text in aggregates:
        if counted := re.fullmatch(r"\s*\$count\s+as\s+(\w+)\s*", text):
            result[counted[1]] = len(rows)
            continue
        match = re.fullmatch(r"\s*([\w/]+)\s+with\s+(\w+)\s+as\s+(\w+)\s*", text)
        if match is None or match[2] not in _METHODS:
            raise query_error(f"The aggregate '{text.strip()}' is not supported.")
        get = query.accessor(context, table, match[1])
        result[match[3]] = _METHODS[match[2]]([v for row in rows if (v := get(row)) is not None])
    return result
