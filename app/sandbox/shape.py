"""What an answer holds: the query options, the columns and expansions made ready, links to go on with."""

import re
from itertools import islice
from typing import Any
from urllib.parse import quote

from app.sandbox import projection, query
from app.sandbox.addresses import Context
from app.sandbox.errors import query_error
from app.sandbox.messages import MAXIMUM_PAGE, ApiRequest, Preferences
from app.sandbox.metadata import Many, Single, Table
from app.sandbox.projection import Expand, Projection
from app.sandbox.query import Query
from app.sandbox.storage import Row

SAFE = "/()=,'$.:@"  # what stays as it is in the path of a link
OPTIONS = frozenset(
    {"$select", "$filter", "$orderby", "$top", "$count", "$expand", "$apply", "$skiptoken", "$deltatoken"}
)
REFUSED = {
    "$skip": "Skip Clause is not supported in CRM",
    "$search": "The query option '$search' is not supported.",
    "$format": "The query option '$format' is not supported.",
    "$compute": "The query option '$compute' is not supported.",
    "$levels": "The query option '$levels' is not supported.",
}


def options_of(request: ApiRequest) -> dict[str, str]:
    """The query options, with parameter aliases replaced by their values.

    Raises:
        DataverseError: 400 for an option that the service does not have.
    """
    for name in request.options:
        if name in REFUSED:
            raise query_error(REFUSED[name])
        if name == "sql" or (name.startswith("$") and name not in OPTIONS):
            raise query_error(f"The query parameter '{name}' is not supported.")
    aliases = {name: value for name, value in request.options.items() if name.startswith("@")}
    return {name: _with_aliases(value, aliases) for name, value in request.options.items() if name in OPTIONS}


def _with_aliases(text: str, aliases: dict[str, str]) -> str:
    if "@" not in text:
        return text
    pieces = re.findall(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|@\w+|[^'\"@]+|.", text, re.DOTALL)
    return "".join(aliases.get(piece, "null") if re.fullmatch(r"@\w+", piece) else piece for piece in pieces)


def prepare_projection(
    context: Context, table: Table, options: dict[str, str], prefer: Preferences, *, nested: bool = False
) -> Projection:
    """What to show, with everything to expand made ready.

    Raises:
        DataverseError: 400 for unknown names.
    """
    columns, selected = projection.columns(table, options.get("$select"))
    found = Projection(table, columns, selected, projection.expands(table, options.get("$expand")), prefer)
    for expand in found.expands:
        _prepare_expand(context, expand, prefer, nested=nested)
    return found


def _prepare_expand(context: Context, expand: Expand, prefer: Preferences, *, nested: bool) -> None:
    tables = context.organization.metadata.tables
    if isinstance(expand.navigation, Many):
        if nested and set(expand.options) - {"$select", "$filter", "$expand"}:
            raise query_error("A nested expand of a collection allows only $select and $filter.")
        target = tables[expand.navigation.table]
        expand.query = query.prepare(context, target, expand.options)
        names = [target.name]
    else:
        if set(expand.options) - {"$select", "$expand"}:
            raise query_error("An expand of a single-valued property allows only $select and $expand.")
        if expand.navigation.target == "principal":
            _prepare_principal(expand, prefer, tables)
            return
        names = [expand.navigation.target]
    for name in names:
        expand.targets[name] = prepare_projection(context, tables[name], expand.options, prefer, nested=True)


def _prepare_principal(expand: Expand, prefer: Preferences, tables: dict[str, Table]) -> None:
    """The type `principal` has one property: `ownerid`, which users and teams show by themselves."""
    for name in (expand.options.get("$select") or "ownerid").split(","):
        if name.strip() != "ownerid":
            raise query_error(
                f"Could not find a property named '{name.strip()}' on type 'Microsoft.Dynamics.CRM.principal'."
            )
    for kind in ("systemuser", "team"):
        expand.targets[kind] = Projection(tables[kind], [], preferences=prefer)


def shown(context: Context, prepared: Projection, row: Row) -> dict[str, Any]:
    """The JSON object of a row, with what it expands."""
    result = projection.show(context, prepared, row)
    for expand in prepared.expands:
        if isinstance(expand.navigation, Single):
            result[expand.navigation.name] = _expanded_row(context, prepared.table, expand, row)
        else:
            name = expand.navigation.name
            result[name] = _expanded_rows(context, prepared.table, expand, row)
            path = f"{context.api}/{prepared.table.set_name}({row[prepared.table.key]})/{name}"
            inner = "&".join(f"{key}={value}" for key, value in expand.options.items())
            result[f"{name}@odata.nextLink"] = f"{path}?{inner}" if inner else path
    return result


def _expanded_row(context: Context, table: Table, expand: Expand, row: Row) -> dict[str, Any] | None:
    lookup = table.attributes[expand.navigation.attribute]
    kind = projection.target_of(lookup, row)
    target = context.organization.storage.row(kind, row.get(lookup.name))
    if target is None or kind not in expand.targets:
        return None
    return shown(context, expand.targets[kind], target)


def _expanded_rows(context: Context, table: Table, expand: Expand, row: Row) -> list[dict[str, Any]]:
    prepared: Query = expand.query
    ids = set(query.related_ids(context, table, expand.navigation.name, row[table.key]))
    narrowed = Query(context, prepared.table, prepared.test, prepared.order, lambda: ids)
    top = min(number(expand.options, "$top") or MAXIMUM_PAGE, MAXIMUM_PAGE)
    target = next(iter(expand.targets.values()))
    context.organization.storage.rows_read += len(ids)
    return [shown(context, target, found) for _, found in islice(narrowed.rows(), top)]


def number(options: dict[str, str], name: str) -> int | None:
    """The whole number of an option, None if it is absent.

    Raises:
        DataverseError: 400.
    """
    text = options.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise query_error(f"Invalid value '{text}' for {name} query option found.")
    return int(text)


def context_of(context: Context, table: Table, prepared: Projection, suffix: str = "") -> str:
    """The @odata.context of an answer."""
    return f"{context.api}/$metadata#{table.set_name}{prepared.context_fragment()}{suffix}"


def next_link(context: Context, request: ApiRequest, token: str) -> str:
    """The address of the next page: this one with another `$skiptoken`."""
    parts = [
        p for p in request.query.split("&") if p and not re.match(r"(\$|%24)skiptoken=", p, re.IGNORECASE)
    ]
    return f"{context.api}/{quote(request.path, safe=SAFE)}?{'&'.join([*parts, f'$skiptoken={token}'])}"
