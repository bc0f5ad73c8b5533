"""The two tables: account statistics, and the connections that the button reads."""

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

from app.solution.columns import Column, Kind, column_xml
from app.solution.names import CONNECTION, INTRODUCED, PREFIX, STATISTICS
from app.solution.xml import labels, node, values


@dataclass(frozen=True, slots=True)
class Table:
    """A table of ours. The organization owns its rows: figures and settings belong to no user."""

    name: str
    set_name: str
    label: str
    plural: str
    description: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """Its primary key."""
        return f"{self.name}id"

    @property
    def primary_name(self) -> str:
        """The column by which people know a row."""
        return next(column.name for column in self.columns if column.primary_name)

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns for people, in the order of the form."""
        return tuple(column for column in self.columns if column.custom)


def _column(suffix: str, label: str, kind: Kind = Kind.TEXT, length: int = 0) -> Column:
    return Column(f"{PREFIX}_{suffix}", label, kind, length)


def _name(length: int) -> Column:
    return Column(f"{PREFIX}_name", "Name", Kind.TEXT, length, required=True, primary_name=True)


_STATE = (
    Column("statecode", "Status", Kind.STATE),
    Column("statuscode", "Status Reason", Kind.STATUS),
)

STATISTICS_TABLE: Final = Table(
    name=STATISTICS,
    set_name=f"{STATISTICS}es",
    label="NAV Account Statistics",
    plural="NAV Account Statistics",
    description="What Dynamics NAV knows about the customer of an account, as of its last update.",
    columns=(
        Column(f"{STATISTICS}id", "NAV Account Statistics", Kind.KEY),
        _name(160),
        _column("customerno", "Customer No.", length=20),
        _column("balancelcy", "Balance (LCY)", Kind.MONEY),
        _column("outstandingorderslcy", "Outstanding Orders (LCY)", Kind.MONEY),
        _column("shippednotinvoicedlcy", "Shipped Not Invoiced (LCY)", Kind.MONEY),
        _column("outstandinginvoiceslcy", "Outstanding Invoices (LCY)", Kind.MONEY),
        _column("outstandingserviceorderslcy", "Outstanding Service Orders (LCY)", Kind.MONEY),
        _column("servshippednotinvoicedlcy", "Service Shipped Not Invoiced (LCY)", Kind.MONEY),
        _column("outstandingservinvoiceslcy", "Outstanding Service Invoices (LCY)", Kind.MONEY),
        _column("totallcy", "Total (LCY)", Kind.MONEY),
        _column("creditlimitlcy", "Credit Limit (LCY)", Kind.MONEY),
        _column("overdueamountslcy", "Overdue Amounts (LCY)", Kind.MONEY),
        _column("overdueamountsasof", "Overdue Amounts as of", Kind.DATE_TIME),
        _column("totalsaleslcy", "Total Sales (LCY)", Kind.MONEY),
        _column("invoicedprepaymentamountlcy", "Invoiced Prepayment Amount (LCY)", Kind.MONEY),
        # Money needs both.
        Column("transactioncurrencyid", "Currency", Kind.LOOKUP),
        Column("exchangerate", "Exchange Rate", Kind.DECIMAL),
        *_STATE,
    ),
)

CONNECTION_TABLE: Final = Table(
    name=CONNECTION,
    set_name=f"{CONNECTION}s",
    label="NAV Connection",
    plural="NAV Connections",
    description="A NAV company that the button Dynamics NAV leads to.",
    columns=(
        Column(f"{CONNECTION}id", "NAV Connection", Kind.KEY),
        _name(100),
        _column("company", "Company", length=100),
        Column(f"{PREFIX}_serviceurl", "Service URL", Kind.TEXT, 250, format="url"),
        *_STATE,
    ),
)

TABLES: Final = (CONNECTION_TABLE, STATISTICS_TABLE)

_CAN_MODIFY = (
    "CanModifyAuditSettings",
    "CanModifyMobileVisibility",
    "CanModifyMobileClientVisibility",
    "CanModifyMobileClientReadOnly",
    "CanModifyMobileClientOffline",
    "CanModifyConnectionSettings",
    "CanModifyDuplicateDetectionSettings",
    "CanModifyMailMergeSettings",
    "CanModifyQueueSettings",
    "CanCreateAttributes",
    "CanCreateForms",
    "CanCreateCharts",
    "CanCreateViews",
    "CanModifyAdditionalSettings",
    "CanEnableSyncToExternalSearchIndex",
)


def table_xml(table: Table) -> Element:
    """The element `entity` of the table, its children in the order of an export."""
    return node(
        "entity",
        [
            labels("LocalizedNames", "LocalizedName", table.label),
            labels("LocalizedCollectionNames", "LocalizedCollectionName", table.plural),
            labels("Descriptions", "Description", table.description),
            node("attributes", [column_xml(table.name, column) for column in table.columns]),
            node("EntitySetName", text=table.set_name),
            *_features(),
            *_mobile_and_views(),
            *_customizing(),
        ],
        attributes={"Name": table.name},
    )


def _features() -> list[Element]:
    return values(
        IsDuplicateCheckSupported=0,
        IsBusinessProcessEnabled=0,
        IsRequiredOffline=0,
        IsInteractionCentricEnabled=0,
        IsCollaboration=0,
        AutoRouteToOwnerQueue=0,
        IsConnectionsEnabled=0,
        IsDocumentManagementEnabled=0,
        AutoCreateAccessTeams=0,
        IsOneNoteIntegrationEnabled=0,
        IsKnowledgeManagementEnabled=0,
        IsSLAEnabled=0,
        IsDocumentRecommendationsEnabled=0,
        IsBPFEntity=0,
        OwnershipTypeMask="OrgOwned",
        IsAuditEnabled=0,
        IsRetrieveAuditEnabled=0,
        IsRetrieveMultipleAuditEnabled=0,
        IsActivity=0,
        ActivityTypeMask="",
        IsActivityParty=0,
        IsReplicated=0,
        IsReplicationUserFiltered=0,
        IsMailMergeEnabled=0,
    )


def _mobile_and_views() -> list[Element]:
    return values(
        IsVisibleInMobile=0,
        IsVisibleInMobileClient=1,
        IsReadOnlyInMobileClient=0,
        IsOfflineInMobileClient=0,
        DaysSinceRecordLastModified=0,
        MobileOfflineFilters="",
        IsMapiGridEnabled=1,
        IsReadingPaneEnabled=1,
        IsQuickCreateEnabled=0,
        SyncToExternalSearchIndex=0,
    )


def _customizing() -> list[Element]:
    return [
        *values(IntroducedVersion=INTRODUCED, IsCustomizable=1, IsRenameable=1, IsMappable=1),
        *(node(name, text="1") for name in _CAN_MODIFY),
        *values(
            EnforceStateTransitions=0,
            CanChangeHierarchicalRelationship=1,
            EntityHelpUrlEnabled=0,
            ChangeTrackingEnabled=1,
            CanChangeTrackingBeEnabled=1,
            IsEnabledForExternalChannels=0,
            IsSolutionAware=0,
        ),
    ]
