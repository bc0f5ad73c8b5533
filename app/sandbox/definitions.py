"""The metadata as the Web API shows it: EntityDefinitions and what is below them."""

import re
from typing import Any

from app import filters
from app.sandbox import payload
from app.sandbox.addresses import Context, Segment, split
from app.sandbox.describe import (
    attribute_of,
    key_of,
    many_to_many_of,
    odata_type,
    option_set_of,
    relationship_of,
    table_of,
)
from app.sandbox.errors import DataverseError, duplicate_key, invalid, not_found, query_error, unknown_segment
from app.sandbox.messages import ApiRequest, ApiResponse
from app.sandbox.metadata import LOOKUPS, AlternateKey, Table, metadata_id

ROOTS = frozenset(
    {
        "EntityDefinitions",
        "GlobalOptionSetDefinitions",
        "RelationshipDefinitions",
        "ManagedPropertyDefinitions",
    }
)
NAMESPACE = "Microsoft.Dynamics.CRM."
NAVIGATIONS = frozenset({"OptionSet", "GlobalOptionSet"})  # shown only when expanded
KEY_TYPES = frozenset({"Integer", "Decimal", "String", "DateTime", "Picklist", *LOOKUPS})
MAXIMUM_KEYS = 10
MAXIMUM_KEY_COLUMNS = 16
Item = dict[str, Any]


def handle(context: Context, parts: list[Segment], request: ApiRequest) -> ApiResponse:
    """A request for metadata.

    Raises:
        DataverseError: 404 for what is not there, 400 and 501 for queries that metadata does not know.
    """
    head, *rest = parts
    match head.name:
        case "EntityDefinitions":
            return _tables(context, head, rest, request)
        case "GlobalOptionSetDefinitions":
            return _global_options(context, head, request)
        case "RelationshipDefinitions" if request.method == "GET":
            found = [item for table in context.organization.metadata for item in _many_to_one(context, table)]
            return _list(context, "RelationshipDefinitions", found, request)
    raise DataverseError(501, "0x8006088a", f"'{head.name}' is not implemented.")


def _tables(context: Context, head: Segment, rest: list[Segment], request: ApiRequest) -> ApiResponse:
    metadata = context.organization.metadata
    if head.key is None:
        if request.method != "GET":
            raise DataverseError(501, "0x8006088a", "Tables cannot be created here.")
        return _list(context, "EntityDefinitions", [table_of(table) for table in metadata], request)
    table = _table(context, head.key)
    if not rest:
        if request.method == "GET":
            return _one(context, "EntityDefinitions", _expanded(context, table, request), request)
        if request.method == "PUT":
            return _change_table(context, table, request)
        raise DataverseError(405, "0x80060888", f"{request.method} is not allowed on a table's definition.")
    return _below_table(context, table, rest, request)


def _table(context: Context, key: str) -> Table:
    match = re.fullmatch(r"LogicalName='([^']*)'", key)
    wanted = match[1] if match else key.lower()
    for table in context.organization.metadata:
        if wanted in (table.name, metadata_id(table.name)):
            return table
    raise not_found("entity", wanted)


def _change_table(context: Context, table: Table, request: ApiRequest) -> ApiResponse:
    """Change tracking can be switched on, never off."""
    body = payload.read_json(request.body)
    if (wanted := body.get("ChangeTrackingEnabled")) is not None and bool(wanted) != table.change_tracking:
        if not wanted:
            raise invalid("Change tracking cannot be switched off once it is on.")
        table.change_tracking = True
        data = context.organization.data(table.name)
        data.schema_version = context.organization.storage.next_version()
    return ApiResponse(204)


def _expanded(context: Context, table: Table, request: ApiRequest) -> Item:
    """A table with the collections that the request expands."""
    item = table_of(table)
    for part in split(request.options.get("$expand", ""), ","):
        name, _, inner = part.strip().partition("(")
        if name:
            found = _collection(context, table, name, None)
            options = dict(
                o.strip().partition("=")[::2] for o in split(inner.removesuffix(")"), ";") if "=" in o
            )
            found = [e for e in found if "$filter" not in options or _matches(options["$filter"], e)]
            item[name] = [_selected(entry, options.get("$select")) for entry in found]
    return item


def _below_table(context: Context, table: Table, rest: list[Segment], request: ApiRequest) -> ApiResponse:
    name, key = rest[0].name, rest[0].key
    cast = rest[1].name if len(rest) > 1 and rest[1].name.startswith(NAMESPACE) else None
    where = f"EntityDefinitions('{table.name}')/{name}"
    if name == "Keys" and request.method == "POST":
        return _create_key(context, table, request)
    if name == "Keys" and request.method == "DELETE" and key is not None:
        table.keys.remove(_key(table, key))
        return ApiResponse(204)
    if request.method != "GET":
        raise DataverseError(501, "0x8006088a", f"{request.method} on '{name}' is not implemented.")
    found = _collection(context, table, name, cast)
    if key is None:
        if request.options.get("$expand") and cast is None and name == "Attributes":
            raise query_error("$expand needs a cast of Attributes to a type that has the property.")
        return _list(context, where, found, request)
    item = _by_key(found, key, name)
    if len(rest) > (2 if cast else 1):
        return _one(context, where, _property(item, rest[-1].name), request)
    return _one(context, where, item, request)


def _property(item: Item, name: str) -> Item:
    if name not in item:
        raise unknown_segment(name)
    value = item[name]
    return value if isinstance(value, dict) else {"value": value}


def _by_key(found: list[Item], key: str, name: str) -> Item:
    match = re.fullmatch(r"(?:LogicalName|SchemaName)='([^']*)'", key)
    wanted = match[1] if match else key.lower()
    for item in found:
        if wanted in (item.get("LogicalName"), item.get("SchemaName"), item["MetadataId"]):
            return item
    raise not_found(name, wanted)


def _collection(context: Context, table: Table, name: str, cast: str | None) -> list[Item]:
    match name:
        case "Attributes":
            wanted = [a for a in table.attributes.values() if cast is None or odata_type(a) == f"#{cast}"]
            return [attribute_of(table, attribute, detailed=cast is not None) for attribute in wanted]
        case "ManyToOneRelationships":
            return _many_to_one(context, table)
        case "OneToManyRelationships":
            pairs = context.organization.metadata.referencing[table.name]
            return [relationship_of(child, attribute, table) for child, attribute in pairs]
        case "ManyToManyRelationships":
            many = [m for m in table.collections.values() if m.intersect is not None]
            return [many_to_many_of(context.organization.metadata, table, m) for m in many]
        case "Keys":
            return [key_of(table, key) for key in table.keys]
    raise unknown_segment(name)


def _many_to_one(context: Context, table: Table) -> list[Item]:
    tables = context.organization.metadata.tables
    return [
        relationship_of(table, attribute, tables[target])
        for attribute in table.attributes.values()
        if attribute.type in LOOKUPS
        for target in attribute.targets
        if target in tables
    ]


# -- alternate keys


def _key(table: Table, text: str) -> AlternateKey:
    match = re.fullmatch(r"LogicalName='([^']*)'", text)
    wanted = match[1] if match else text.lower()
    for key in table.keys:
        if wanted in (key.name, metadata_id(table.name, "key", key.name)):
            return key
    raise not_found("EntityKeyMetadata", wanted)


def _create_key(context: Context, table: Table, request: ApiRequest) -> ApiResponse:
    body = payload.read_json(request.body)
    name, columns = body.get("SchemaName"), body.get("KeyAttributes")
    if not isinstance(name, str) or not isinstance(columns, list) or not columns:
        raise invalid("An alternate key needs SchemaName and KeyAttributes.")
    if len(columns) > MAXIMUM_KEY_COLUMNS or len(table.keys) >= MAXIMUM_KEYS:
        raise invalid(f"A table has at most {MAXIMUM_KEYS} keys of {MAXIMUM_KEY_COLUMNS} columns.")
    for column in columns:
        attribute = table.attributes.get(str(column))
        if attribute is None or attribute.type not in KEY_TYPES:
            raise invalid(f"The column '{column}' of '{table.name}' cannot be part of a key.")
    if any(key.name == name.lower() for key in table.keys):
        raise duplicate_key()
    key = AlternateKey(name, tuple(columns), _label(body, name))
    key.status = "Failed" if _has_duplicates(context, table, key) else "Active"
    table.keys.append(key)
    url = f"{context.api}/{request.path}({metadata_id(table.name, 'key', key.name)})"
    return ApiResponse(204, headers={"OData-EntityId": url, "Location": url})


def _label(body: Item, name: str) -> str:
    labels = (body.get("DisplayName") or {}).get("LocalizedLabels") or []
    return str(labels[0].get("Label", name)) if labels else name


def _has_duplicates(context: Context, table: Table, key: AlternateKey) -> bool:
    """The index cannot be built over rows that agree in all columns of the key."""
    seen = set()
    for row in context.organization.rows(table.name).values():
        values = tuple(row.get(column) for column in key.attributes)
        if None in values:
            continue
        if values in seen:
            return True
        seen.add(values)
    return False


# -- option sets


def _global_options(context: Context, head: Segment, request: ApiRequest) -> ApiResponse:
    found: dict[str, Item] = {}
    for table in context.organization.metadata:
        for attribute in table.attributes.values():
            if attribute.type == "Picklist" and attribute.options:
                name = f"{table.name}_{attribute.name}"
                found[name] = option_set_of(table, attribute)
    if head.key is None:
        if "$filter" in request.options or "$expand" in request.options:
            raise query_error("Global option sets can only be read without query options.")
        return _list(context, "GlobalOptionSetDefinitions", list(found.values()), request)
    match = re.fullmatch(r"Name='([^']*)'", head.key)
    if match is None or match[1] not in found:
        raise not_found("OptionSet", head.key)
    return _one(context, "GlobalOptionSetDefinitions", found[match[1]], request)


# -- answers


def _list(context: Context, where: str, items: list[Item], request: ApiRequest) -> ApiResponse:
    text = request.options.get("$filter")
    if text is not None:
        text = re.sub(r"Microsoft\.Dynamics\.CRM\.\w+('[^']*')", r"\1", text)
        items = [item for item in items if _matches(text, item)]
    if (top := request.options.get("$top")) is not None and top.isdigit():
        items = items[: int(top)]
    value = [_chosen(item, request.options) for item in items]
    content: Item = {"@odata.context": f"{context.api}/$metadata#{where}"}
    if request.options.get("$count", "").lower() == "true":
        content["@odata.count"] = len(value)
    return ApiResponse(200, content | {"value": value})


def _one(context: Context, where: str, item: Item, request: ApiRequest) -> ApiResponse:
    content = {"@odata.context": f"{context.api}/$metadata#{where}/$entity"}
    return ApiResponse(200, content | _chosen(item, request.options))


def _chosen(item: Item, options: dict[str, str]) -> Item:
    """The selected properties, and the navigation properties that are expanded."""
    expanded = {}
    for part in split(options.get("$expand", ""), ","):
        name, _, inner = part.strip().partition("(")
        if name and name not in item:
            raise query_error(f"Could not find a property named '{name}' on the metadata type.")
        if name:
            select = next(
                (o[8:] for o in split(inner.removesuffix(")"), ";") if o.startswith("$select=")), None
            )
            value = item[name]
            expanded[name] = _selected(value, select) if isinstance(value, dict) else value
    plain = {name: value for name, value in item.items() if name not in NAVIGATIONS}
    return _selected(plain, options.get("$select")) | expanded


def _selected(item: Item, select: str | None) -> Item:
    if not select:
        return item
    names = {name.strip() for name in select.split(",")} | {"MetadataId", "@odata.type"}
    if unknown := names - set(item) - {"@odata.type"}:
        raise query_error(f"Could not find a property named '{sorted(unknown)[0]}' on the metadata type.")
    return {name: value for name, value in item.items() if name in names}


def _matches(text: str, item: Item) -> bool:
    if re.search(r"\b(startswith|endswith|contains)\(", text):
        raise DataverseError(501, "0x8006088a", "The function is not supported in a filter on metadata.")
    try:
        return filters.matches(filters.parse(text), lambda path: _at(item, path)) is True
    except filters.FilterError as error:
        raise query_error(error.message) from error


def _at(item: Item, path: str) -> Any:
    value: Any = item
    for name in path.split("/"):
        if not isinstance(value, dict) or name not in value:
            raise query_error(f"Could not find a property named '{name}' on the metadata type.")
        value = value[name]
    return value


# -- RetrieveMetadataChanges


def changes(context: Context, query: Item) -> Item:
    """The answer of RetrieveMetadataChanges: tables by criteria, with their columns by criteria, all typed.

    Raises:
        DataverseError: 400, for criteria other than Equals, NotEquals, In and NotIn.
    """
    found = []
    for table in context.organization.metadata:
        item = table_of(table)
        if not _meets(item, query.get("Criteria")):
            continue
        names = _property_names(query)
        shown = _only(item, names)
        if "AttributeQuery" in query or names is None or "Attributes" in names:
            inner = query.get("AttributeQuery") or {}
            columns = [attribute_of(table, a, detailed=True) for a in table.attributes.values()]
            chosen = [column for column in columns if _meets(column, inner.get("Criteria"))]
            shown["Attributes"] = [_only(column, _property_names(inner)) for column in chosen]
        found.append(shown)
    stamp = f"{context.organization.storage.version}!{context.organization.now()}"
    return {"EntityMetadata": found, "ServerVersionStamp": stamp, "DeletedMetadata": None}


def _property_names(query: Item) -> set[str] | None:
    properties = query.get("Properties") or {}
    names = properties.get("PropertyNames")
    return None if properties.get("AllProperties") or not names else set(names)


def _only(item: Item, names: set[str] | None) -> Item:
    if names is None:
        return dict(item)
    return {name: value for name, value in item.items() if name in names | {"MetadataId", "@odata.type"}}


def _meets(item: Item, criteria: Item | None) -> bool:
    outcomes = [_condition(item, condition) for condition in (criteria or {}).get("Conditions") or []]
    if (criteria or {}).get("FilterOperator") == "Or":
        return any(outcomes)
    return all(outcomes)


def _condition(item: Item, condition: Item) -> bool:
    found = item.get(str(condition.get("PropertyName")))
    value = (condition.get("Value") or {}).get("Value")
    match condition.get("ConditionOperator"):
        case "Equals":
            return bool(str(found) == str(value))
        case "NotEquals":
            return bool(str(found) != str(value))
        case "In" if isinstance(value, list):
            return str(found) in [str(v) for v in value]
        case "NotIn" if isinstance(value, list):
            return str(found) not in [str(v) for v in value]
    raise query_error(f"The metadata condition '{condition.get('ConditionOperator')}' is not supported.")
