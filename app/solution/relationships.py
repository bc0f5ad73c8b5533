"""The lookups: from account to its statistics, from the statistics to their currency."""

from xml.etree.ElementTree import Element

from app.solution.names import INTRODUCED, LOOKUP, RELATIONSHIP, STATISTICS
from app.solution.xml import labels, node, values


def relationships_xml() -> list[Element]:
    """Every lookup column of the solution has one."""
    return [
        _one_to_many(RELATIONSHIP, referencing="Account", column=LOOKUP, referenced=STATISTICS),
        _one_to_many(
            f"TransactionCurrency_{STATISTICS}",  # as Dataverse names it for every table with money
            referencing=STATISTICS,
            column="transactioncurrencyid",
            referenced="TransactionCurrency",
        ),
    ]


def _one_to_many(name: str, *, referencing: str, column: str, referenced: str) -> Element:
    """Many rows of `referencing` point to one of `referenced`, which may be deleted: their column is emptied then."""
    end_of_many = node(
        "EntityRelationshipRole",
        values(
            NavPaneDisplayOption="DoNotDisplay",
            NavPaneArea="Details",
            NavPaneOrder=10000,
            NavigationPropertyName=column,
            RelationshipRoleType=1,
        ),
    )
    end_of_one = node("EntityRelationshipRole", values(NavigationPropertyName=name, RelationshipRoleType=0))
    return node(
        "EntityRelationship",
        [
            *values(
                EntityRelationshipType="OneToMany",
                IsCustomizable=1,
                IntroducedVersion=INTRODUCED,
                IsHierarchical=0,
                ReferencingEntityName=referencing,
                ReferencedEntityName=referenced,
                CascadeAssign="NoCascade",
                CascadeDelete="RemoveLink",
                CascadeArchive="NoCascade",
                CascadeReparent="NoCascade",
                CascadeShare="NoCascade",
                CascadeUnshare="NoCascade",
                CascadeRollupView="NoCascade",
                IsValidForAdvancedFind=1,
                ReferencingAttributeName=column,
            ),
            node("RelationshipDescription", [labels("Descriptions", "Description", "")]),
            node("EntityRelationshipRoles", [end_of_many, end_of_one]),
        ],
        attributes={"Name": name},
    )
