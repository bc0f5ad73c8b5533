"""Tables, columns, relationships and keys as metadata objects."""

from typing import Any

from app.sandbox.metadata import LOOKUPS, AlternateKey, Attribute, Many, Metadata, Table, metadata_id

Item = dict[str, Any]
LANGUAGE = 1033
NAMESPACE = "#Microsoft.Dynamics.CRM."
TYPES = {"EntityName": "EntityNameAttributeMetadata", "Uniqueidentifier": "UniqueIdentifierAttributeMetadata"}


def label(text: str, *parts: str) -> Item:
    """A label in the one language of the organization."""
    localized = {
        "Label": text,
        "LanguageCode": LANGUAGE,
        "IsManaged": True,
        "MetadataId": metadata_id("label", text, *parts),
        "HasChanged": None,
    }
    return {"LocalizedLabels": [localized], "UserLocalizedLabel": dict(localized)}


def _managed(value: Any, name: str) -> Item:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def table_of(table: Table) -> Item:
    """EntityMetadata."""
    return {
        "MetadataId": metadata_id(table.name),
        "LogicalName": table.name,
        "SchemaName": table.schema_name,
        "EntitySetName": table.set_name,
        "LogicalCollectionName": table.set_name,
        "CollectionSchemaName": table.set_name,
        "ObjectTypeCode": table.type_code,
        "PrimaryIdAttribute": table.key,
        "PrimaryNameAttribute": table.primary_name,
        "OwnershipType": table.ownership,
        "IsCustomEntity": table.custom,
        "IsCustomizable": _managed(True, "iscustomizable"),
        "IsActivity": False,
        "IsIntersect": table.name in ("systemuserroles", "teammembership", "teamroles"),
        "IsPrivate": False,
        "ChangeTrackingEnabled": table.change_tracking,
        "CanChangeTrackingBeEnabled": _managed(True, "canchangetrackingbeenabled"),
        "IsOptimisticConcurrencyEnabled": True,
        "IsDuplicateDetectionEnabled": _managed(False, "isduplicatedetectionenabled"),
        "TableType": "Standard",
        "DisplayName": label(table.schema_name, table.name),
        "DisplayCollectionName": label(table.set_name, table.name),
        "Description": label("", table.name),
        "HasChanged": None,
    }


def attribute_of(table: Table, attribute: Attribute, *, detailed: bool) -> Item:
    """AttributeMetadata; what only the type itself has comes with `detailed`, which a cast asks for."""
    item: Item = {
        "@odata.type": odata_type(attribute),
        "MetadataId": metadata_id(table.name, attribute.name),
        "LogicalName": attribute.name,
        "SchemaName": attribute.schema_name,
        "EntityLogicalName": table.name,
        "AttributeType": attribute.type,
        "AttributeTypeName": {"Value": f"{attribute.type}Type"},
        "AttributeOf": attribute.name.removesuffix("type") if attribute.type == "EntityName" else None,
        "RequiredLevel": _managed(attribute.required, "canmodifyrequirementlevelsettings"),
        "IsValidForCreate": attribute.create,
        "IsValidForUpdate": attribute.update,
        "IsValidForRead": True,
        "IsValidODataAttribute": attribute.type != "EntityName",
        "IsPrimaryId": attribute.name == table.key,
        "IsPrimaryName": attribute.name == table.primary_name,
        "IsCustomAttribute": attribute.custom,
        "IsLogical": False,
        "SourceType": 0 if attribute.base_of is None else 1,
        "DisplayName": label(attribute.label, table.name, attribute.name),
        "Description": label("", table.name, attribute.name),
        "HasChanged": None,
    }
    return item | _details(table, attribute) if detailed else item


def odata_type(attribute: Attribute) -> str:
    """The type of its AttributeMetadata, to which a request may cast."""
    kind = "Lookup" if attribute.type in LOOKUPS else attribute.type
    return f"{NAMESPACE}{TYPES.get(attribute.type) or f'{kind}AttributeMetadata'}"


def _details(table: Table, attribute: Attribute) -> Item:
    match attribute.type:
        case "String":
            return {"MaxLength": attribute.max_length, "FormatName": {"Value": "Text"}, "Format": "Text"}
        case "Memo":
            return {"MaxLength": attribute.max_length, "Format": "TextArea"}
        case "Integer":
            return {
                "MinValue": int(attribute.minimum or 0),
                "MaxValue": int(attribute.maximum or 0),
                "Format": "None",
            }
        case "Decimal" | "Double" | "Money":
            numbers = {
                "MinValue": attribute.minimum,
                "MaxValue": attribute.maximum,
                "Precision": attribute.precision,
            }
            money = {"PrecisionSource": 2, "IsBaseCurrency": attribute.base_of is not None}
            return numbers | money if attribute.type == "Money" else numbers
        case "DateTime":
            day = attribute.date_only
            return {
                "Format": "DateOnly" if day else "DateAndTime",
                "DateTimeBehavior": {"Value": "DateOnly" if day else "UserLocal"},
            }
        case "Lookup" | "Customer" | "Owner":
            return {"Targets": list(attribute.targets)}
        case "Picklist" | "State" | "Status" | "Boolean":
            return {"OptionSet": option_set_of(table, attribute), "GlobalOptionSet": None}
    return {}


def option_set_of(table: Table, attribute: Attribute) -> Item:
    """OptionSetMetadata, or BooleanOptionSetMetadata."""
    name = f"{table.name}_{attribute.name}"
    item: Item = {
        "MetadataId": metadata_id("optionset", name),
        "Name": name,
        "IsGlobal": False,
        "IsCustomOptionSet": attribute.custom,
        "OptionSetType": attribute.type,
        "DisplayName": label(attribute.label, "optionset", name),
    }
    if attribute.type == "Boolean":
        options = {"TrueOption": option_of(1, "Yes"), "FalseOption": option_of(0, "No")}
        return {"@odata.type": f"{NAMESPACE}BooleanOptionSetMetadata"} | item | options
    options_list = []
    for value, text in attribute.options.items():
        option = option_of(value, text)
        if attribute.type == "Status":
            states = [state for state, statuses in table.states.items() if value in statuses]
            option |= {"State": states[0] if states else 0, "TransitionData": None}
        elif attribute.type == "State":
            default = next(iter(table.states.get(value, ())), None)
            option |= {"DefaultStatus": default, "InvariantName": text.replace(" ", "")}
        options_list.append(option)
    return {"@odata.type": f"{NAMESPACE}OptionSetMetadata"} | item | {"Options": options_list}


def option_of(value: int, text: str) -> Item:
    """OptionMetadata."""
    return {
        "Value": value,
        "Label": label(text, "option", str(value)),
        "Description": label("", "option", str(value)),
        "Color": None,
        "IsManaged": True,
        "ExternalValue": None,
    }


def relationship_of(child: Table, attribute: Attribute, parent: Table) -> Item:
    """OneToManyRelationshipMetadata: the lookup of a table to one of its targets."""
    collection = next(
        (
            m.name
            for m in parent.collections.values()
            if (m.table, m.attribute) == (child.name, attribute.name)
        ),
        "",
    )
    return {
        "@odata.type": f"{NAMESPACE}OneToManyRelationshipMetadata",
        "MetadataId": metadata_id(child.name, attribute.name, parent.name),
        "SchemaName": collection,
        "RelationshipType": "OneToManyRelationship",
        "ReferencingEntity": child.name,
        "ReferencingAttribute": attribute.name,
        "ReferencedEntity": parent.name,
        "ReferencedAttribute": parent.key,
        "ReferencingEntityNavigationPropertyName": attribute.navigations.get(parent.name),
        "ReferencedEntityNavigationPropertyName": collection,
        "IsCustomRelationship": attribute.custom,
        "HasChanged": None,
    }


def many_to_many_of(metadata: Metadata, table: Table, many: Many) -> Item:
    """ManyToManyRelationshipMetadata."""
    return {
        "@odata.type": f"{NAMESPACE}ManyToManyRelationshipMetadata",
        "MetadataId": metadata_id("manytomany", many.name),
        "SchemaName": many.name,
        "RelationshipType": "ManyToManyRelationship",
        "Entity1LogicalName": table.name,
        "Entity1IntersectAttribute": many.near,
        "Entity2LogicalName": metadata.tables[many.table].name,
        "Entity2IntersectAttribute": many.far,
        "IntersectEntityName": many.intersect,
        "Entity1NavigationPropertyName": many.name,
        "Entity2NavigationPropertyName": many.name,
        "HasChanged": None,
    }


def key_of(table: Table, key: AlternateKey) -> Item:
    """EntityKeyMetadata."""
    return {
        "MetadataId": metadata_id(table.name, "key", key.name),
        "SchemaName": key.schema_name,
        "LogicalName": key.name,
        "EntityLogicalName": table.name,
        "KeyAttributes": list(key.attributes),
        "EntityKeyIndexStatus": key.status,
        "DisplayName": label(key.label, "key", key.name),
        "IsManaged": False,
        "HasChanged": None,
    }
