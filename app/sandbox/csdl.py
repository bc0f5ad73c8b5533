"""The service document and `$metadata` in CSDL."""

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

from app.sandbox.addresses import Context
from app.sandbox.errors import query_error
from app.sandbox.messages import ApiRequest, ApiResponse
from app.sandbox.metadata import LOOKUPS, Attribute, Table
from app.sandbox.values import edm_type

NAMESPACE = "mscrm"


def service_document(context: Context) -> ApiResponse:
    """The list of entity sets."""
    value = [
        {"name": table.set_name, "kind": "EntitySet", "url": table.set_name}
        for table in context.organization.metadata
    ]
    return ApiResponse(200, {"@odata.context": f"{context.api}/$metadata", "value": value})


def answer(context: Context, request: ApiRequest) -> ApiResponse:
    """`$metadata`, which comes as XML only.

    Raises:
        DataverseError: 415, when the client asks for JSON.
    """
    accept = request.headers.get("accept", "")
    if "json" in accept and "xml" not in accept and "*/*" not in accept:
        raise query_error(
            "A supported MIME type could not be found that matches the acceptable MIME types.", 415
        )
    annotated = request.options.get("annotations", "").lower() == "true"
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        '<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"><edmx:DataServices>',
        '<Schema Namespace="Microsoft.Dynamics.CRM" Alias="mscrm" xmlns="http://docs.oasis-open.org/odata/ns/edm">',
        '<EntityType Name="crmbaseentity" Abstract="true" />',
        '<EntityType Name="principal" BaseType="mscrm.crmbaseentity">'
        '<Key><PropertyRef Name="ownerid" /></Key><Property Name="ownerid" Type="Edm.Guid" /></EntityType>',
    ]
    for table in context.organization.metadata:
        lines += _entity_type(context, table, annotated)
    lines.append('<EntityContainer Name="System">')
    for table in context.organization.metadata:
        lines += _entity_set(context, table, annotated)
    lines.append("</EntityContainer></Schema></edmx:DataServices></edmx:Edmx>")
    return ApiResponse(200, "\n".join(lines), content_type="application/xml; charset=utf-8")


def _entity_type(context: Context, table: Table, annotated: bool) -> Iterator[str]:
    principal = table.name in ("systemuser", "team")
    base = "principal" if principal else "crmbaseentity"
    yield f'<EntityType Name={quoteattr(table.name)} BaseType="mscrm.{base}">'
    if not principal:
        yield f'<Key><PropertyRef Name="{table.key}" /></Key>'
    for attribute in table.attributes_shown():
        yield from _property(attribute, annotated)
    for single in table.singles.values():
        partner = _partner(context, table, single.attribute, single.target)
        lookup = table.attributes[single.attribute].read_name
        target = context.organization.metadata.tables.get(single.target)
        key = target.key if target else "ownerid"
        yield (
            f'<NavigationProperty Name="{single.name}" Type="mscrm.{single.target}" Nullable="true"{partner}>'
            f'<ReferentialConstraint Property="{lookup}" ReferencedProperty="{key}" /></NavigationProperty>'
        )
    for many in table.collections.values():
        yield f'<NavigationProperty Name="{many.name}" Type="Collection(mscrm.{many.table})" />'
    yield "</EntityType>"


def _partner(context: Context, table: Table, attribute: str, target: str) -> str:
    owner = context.organization.metadata.tables.get(target)
    for many in owner.collections.values() if owner else ():
        if (many.table, many.attribute) == (table.name, attribute):
            return f' Partner="{many.name}"'
    return ""


def _property(attribute: Attribute, annotated: bool) -> Iterator[str]:
    facet = f' MaxLength="{attribute.max_length}"' if attribute.max_length else ""
    head = f'<Property Name="{attribute.read_name}" Type="{edm_type(attribute)}"{facet}'
    computed = attribute.type in LOOKUPS or not (attribute.create or attribute.update)
    if annotated and computed:
        yield f'{head}><Annotation Term="Org.OData.Core.V1.Computed" Bool="true" /></Property>'
    else:
        yield f"{head} />"


def _entity_set(context: Context, table: Table, annotated: bool) -> Iterator[str]:
    yield f'<EntitySet Name="{table.set_name}" EntityType="Microsoft.Dynamics.CRM.{table.name}">'
    for single in table.singles.values():
        target = context.organization.metadata.tables.get(single.target)
        if target is not None:
            yield f'<NavigationPropertyBinding Path="{single.name}" Target="{target.set_name}" />'
    if annotated and table.change_tracking:
        yield (
            '<Annotation Term="Org.OData.Capabilities.V1.ChangeTracking"><Record>'
            '<PropertyValue Property="Supported" Bool="true" /></Record></Annotation>'
        )
    yield "</EntitySet>"
