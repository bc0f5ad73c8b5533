"""Forms and views of the two tables."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid5
from xml.etree.ElementTree import Element

from app.solution.columns import Column, Kind
from app.solution.names import (
    CELLS,
    CONNECTION_FORM_ID,
    INTRODUCED,
    STATISTICS_FORM_ID,
    STATISTICS_QUICK_FORM_ID,
    VIEW_IDS,
)
from app.solution.tables import CONNECTION_TABLE, STATISTICS_TABLE, Table
from app.solution.xml import labels, node, values

_CONTROLS: Final = {
    Kind.TEXT: "4273EDBD-AC1D-40D3-9FB2-095C621B552D",
    Kind.MONEY: "533B9E00-756B-4312-95A0-DC888637AC78",
    Kind.DATE_TIME: "5B773807-9FB2-42DB-97C3-7A91EFF8ADFF",
}
"""The class of the control that shows a column."""

_VIEWS: Final = (
    (0, "Active {}"),
    (1, "{} Advanced Find"),
    (2, "{} Associated"),
    (4, "Quick Find {}"),
    (64, "{} Lookup"),
)
_QUICK_FIND = 4


def forms_xml(table: Table) -> Element:
    """The main form, and for the statistics the quick view form that an account shows through its lookup."""
    if table is CONNECTION_TABLE:
        return node("FormXml", [_forms("main", CONNECTION_FORM_ID, table, table.shown, read_only=False)])
    figures = [column for column in table.shown if not column.primary_name]
    return node(
        "FormXml",
        [
            _forms("main", STATISTICS_FORM_ID, table, table.shown, read_only=True),
            _forms("quick", STATISTICS_QUICK_FORM_ID, table, figures, read_only=True),
        ],
    )


def _forms(kind: str, form_id: str, table: Table, columns: Sequence[Column], *, read_only: bool) -> Element:
    form = node(
        "systemform",
        [
            *values(
                formid=f"{{{form_id}}}",
                IntroducedVersion=INTRODUCED,
                FormPresentation=1,
                FormActivationState=1,
            ),
            node("form", [node("tabs", [_tab(form_id, table, columns, read_only)])]),
            *values(IsCustomizable=1, CanBeDeleted=1),
            labels("LocalizedNames", "LocalizedName", table.label),
        ],
    )
    return node("forms", [form], attributes={"type": kind})


def _tab(form_id: str, table: Table, columns: Sequence[Column], read_only: bool) -> Element:
    section = node(
        "section",
        [
            labels("labels", "label", table.label),
            node("rows", [node("row", [_cell(form_id, column, read_only)]) for column in columns]),
        ],
        attributes={
            "name": "figures" if table is STATISTICS_TABLE else "connection",
            "id": _id(form_id, "section"),
            "showlabel": "false",
            "showbar": "false",
            "columns": "1",
            "IsUserDefined": "0",
        },
    )
    column = node("column", [node("sections", [section])], attributes={"width": "100%"})
    return node(
        "tab",
        [labels("labels", "label", table.label), node("columns", [column])],
        attributes={
            "name": "general",
            "id": _id(form_id, "tab"),
            "IsUserDefined": "0",
            "verticallayout": "true",
            "showlabel": "false",
        },
    )


def _cell(form_id: str, column: Column, read_only: bool) -> Element:
    control = node(
        "control",
        attributes={
            "id": column.name,
            "classid": f"{{{_CONTROLS[column.kind]}}}",
            "datafieldname": column.name,
            "disabled": "true" if read_only else "false",
        },
    )
    return node(
        "cell",
        [labels("labels", "label", column.label), control],
        attributes={"id": _id(form_id, column.name), "showlabel": "true", "locklevel": "0"},
    )


def _id(form_id: str, name: str) -> str:
    return f"{{{uuid5(UUID(CELLS), f'{form_id}/{name}')}}}"


def views_xml(table: Table) -> Element:
    """The views that every table has: without them lists and lookups of it stay empty."""
    views = [_view(table, query_type, title.format(table.plural)) for query_type, title in _VIEWS]
    return node("SavedQueries", [node("savedqueries", views)])


def _view(table: Table, query_type: int, title: str) -> Element:
    shown = [
        c for c in table.shown if c.kind is not Kind.MONEY or c.name.endswith(("_balancelcy", "_totallcy"))
    ]
    return node(
        "savedquery",
        [
            *values(
                IsCustomizable=1,
                CanBeDeleted=0,
                isquickfindquery=int(query_type == _QUICK_FIND),
                isprivate=0,
                isdefault=1,
                savedqueryid=f"{{{VIEW_IDS[table.name, query_type]}}}",
            ),
            node("layoutxml", [_layout(table, shown)]),
            *values(querytype=query_type),
            node("fetchxml", [_fetch(table, shown, query_type)]),
            *values(IntroducedVersion=INTRODUCED),
            labels("LocalizedNames", "LocalizedName", title),
        ],
    )


def _layout(table: Table, shown: Sequence[Column]) -> Element:
    cells = [
        node("cell", attributes={"name": c.name, "width": "300" if c.primary_name else "150"}) for c in shown
    ]
    return node(
        "grid",
        [node("row", cells, attributes={"name": "result", "id": table.key})],
        attributes={
            "name": "resultset",
            "jump": table.primary_name,
            "select": "1",
            "icon": "1",
            "preview": "1",
        },
    )


def _fetch(table: Table, shown: Sequence[Column], query_type: int) -> Element:
    filters = [_filter(_condition("statecode", "eq", "0"))]
    if query_type == _QUICK_FIND:
        # {0} is where Dataverse puts what the person types.
        typed = _filter(
            _condition(table.primary_name, "like", "{0}"), {"type": "or", "isquickfindfields": "1"}
        )
        filters.append(typed)
    entity = node(
        "entity",
        [
            *(node("attribute", attributes={"name": name}) for name in (table.key, *(c.name for c in shown))),
            node("order", attributes={"attribute": table.primary_name, "descending": "false"}),
            *filters,
        ],
        attributes={"name": table.name},
    )
    return node("fetch", [entity], attributes={"version": "1.0", "mapping": "logical"})


def _filter(condition: Element, attributes: dict[str, str] | None = None) -> Element:
    return node("filter", [condition], attributes=attributes or {"type": "and"})


def _condition(attribute: str, operator: str, value: str) -> Element:
    return node("condition", attributes={"attribute": attribute, "operator": operator, "value": value})
