"""The solution file: its parts fit together, and say what Dataverse expects in the order it expects.

Facts: deep links and solution, part D.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from app.solution import build
from app.solution.manifest import solution_version

LARGEST_WEB_RESOURCE = 5 * 1024 * 1024  # what CRM takes unless an administrator allows more
CONTENT_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
GUID = re.compile(r"\{[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\}")

ROOT_ORDER = [
    "Entities", "Roles", "Workflows", "FieldSecurityProfiles", "Templates", "EntityMaps", "EntityRelationships",
    "OrganizationSettings", "optionsets", "WebResources", "CustomControls", "EntityDataProviders", "Languages",
]  # fmt: skip
ENTITY_ORDER = ["Name", "EntityInfo", "FormXml", "SavedQueries", "RibbonDiffXml"]
COLUMN_ORDER = [
    "Type", "Name", "LogicalName", "RequiredLevel", "DisplayMask", "ImeMode", "ValidForUpdateApi", "ValidForReadApi",
    "ValidForCreateApi", "IsCustomField", "IsAuditEnabled", "IsSecured", "IntroducedVersion", "IsCustomizable",
    "IsRenameable", "CanModifySearchSettings", "CanModifyRequirementLevelSettings", "CanModifyAdditionalSettings",
    "SourceType", "IsGlobalFilterEnabled", "IsSortableEnabled", "CanModifyGlobalFilterSettings",
    "CanModifyIsSortableSettings", "IsDataSourceSecret", "AutoNumberFormat", "IsSearchable", "IsFilterable",
    "IsRetrievable", "IsLocalizable",
]  # fmt: skip
OF_A_KIND = {
    "primarykey": [],
    "nvarchar": ["Format", "MaxLength", "Length"],
    "money": ["MinValue", "MaxValue", "Accuracy", "AccuracySource"],
    "decimal": ["MinValue", "MaxValue", "Accuracy"],
    "datetime": ["Format", "CanChangeDateTimeBehavior", "Behavior"],
    "lookup": ["LookupStyle", "LookupTypes"],
    "state": ["optionset"],
    "status": ["optionset"],
}
TABLE_ORDER = [
    "LocalizedNames", "LocalizedCollectionNames", "Descriptions", "attributes", "EntitySetName",
    "IsDuplicateCheckSupported", "IsBusinessProcessEnabled", "IsRequiredOffline", "IsInteractionCentricEnabled",
    "IsCollaboration", "AutoRouteToOwnerQueue", "IsConnectionsEnabled", "IsDocumentManagementEnabled",
    "AutoCreateAccessTeams", "IsOneNoteIntegrationEnabled", "IsKnowledgeManagementEnabled", "IsSLAEnabled",
    "IsDocumentRecommendationsEnabled", "IsBPFEntity", "OwnershipTypeMask", "IsAuditEnabled",
    "IsRetrieveAuditEnabled", "IsRetrieveMultipleAuditEnabled", "IsActivity", "ActivityTypeMask", "IsActivityParty",
    "IsReplicated", "IsReplicationUserFiltered", "IsMailMergeEnabled", "IsVisibleInMobile", "IsVisibleInMobileClient",
    "IsReadOnlyInMobileClient", "IsOfflineInMobileClient", "DaysSinceRecordLastModified", "MobileOfflineFilters",
    "IsMapiGridEnabled", "IsReadingPaneEnabled", "IsQuickCreateEnabled", "SyncToExternalSearchIndex",
    "IntroducedVersion", "IsCustomizable", "IsRenameable", "IsMappable", "CanModifyAuditSettings",
    "CanModifyMobileVisibility", "CanModifyMobileClientVisibility", "CanModifyMobileClientReadOnly",
    "CanModifyMobileClientOffline", "CanModifyConnectionSettings", "CanModifyDuplicateDetectionSettings",
    "CanModifyMailMergeSettings", "CanModifyQueueSettings", "CanCreateAttributes", "CanCreateForms", "CanCreateCharts",
    "CanCreateViews", "CanModifyAdditionalSettings", "CanEnableSyncToExternalSearchIndex", "EnforceStateTransitions",
    "CanChangeHierarchicalRelationship", "EntityHelpUrlEnabled", "ChangeTrackingEnabled",
    "CanChangeTrackingBeEnabled", "IsEnabledForExternalChannels", "IsSolutionAware",
]  # fmt: skip
OURS = {"navcrm_connection", "navcrm_accountstatistics"}
WITH_BUTTON = {"account", "contact", "systemuser"}


class Solution:
    """A solution file, opened."""

    def __init__(self, content: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert archive.testzip() is None
            self.files = {name: archive.read(name) for name in archive.namelist()}
        self.types = ElementTree.fromstring(self.files["[Content_Types].xml"])
        self.manifest = ElementTree.fromstring(self.files["solution.xml"])
        self.custom = ElementTree.fromstring(self.files["customizations.xml"])

    def text(self, path: str) -> str:
        """Of one element of customizations.xml."""
        return one(self.custom, path).text or ""

    def entities(self) -> dict[str, Element]:
        """By logical name."""
        return {(one(entity, "Name").text or "").lower(): entity for entity in self.all("Entities/Entity")}

    def all(self, path: str) -> list[Element]:
        """Elements of customizations.xml."""
        return self.custom.findall(path)

    def columns(self, table: str) -> dict[str, Element]:
        """By logical name."""
        found = self.entities()[table].findall("EntityInfo/entity/attributes/attribute")
        return {one(column, "LogicalName").text or "": column for column in found}

    def web_resources(self) -> dict[str, Element]:
        """By name."""
        return {one(r, "Name").text or "": r for r in self.all("WebResources/WebResource")}


def one(element: Element, path: str) -> Element:
    """The only element at the path."""
    found = element.findall(path)
    assert len(found) == 1, (element.tag, path, len(found))
    return found[0]


def tags(element: Element) -> list[str]:
    """Of the children, in order."""
    return [child.tag for child in element]


@pytest.fixture(scope="module")
def solution() -> Solution:
    """The solution with the address of a service."""
    return Solution(build("1.4.2", "https://navcrm.cronus.example"))


# --- the file --------------------------------------------------------------------------------------------


def test_two_builds_are_equal_byte_for_byte() -> None:
    assert build("1.4.2", "https://a.example") == build("1.4.2", "https://a.example")
    assert build("1.4.2", "https://a.example") != build("1.4.2", "https://b.example")


def test_an_update_brings_the_same_components(solution: Solution) -> None:
    newer = Solution(build("2.0.0", "https://navcrm.cronus.example"))
    assert newer.files["customizations.xml"] == solution.files["customizations.xml"]
    assert newer.files.keys() == solution.files.keys()


def test_every_file_has_a_content_type(solution: Solution) -> None:
    defaults = {e.get("Extension") for e in solution.types.findall(f"{CONTENT_TYPES}Default")}
    overrides = {e.get("PartName") for e in solution.types.findall(f"{CONTENT_TYPES}Override")}
    for name in solution.files:
        assert name.rpartition(".")[2] in defaults or f"/{name}" in overrides, name
    assert overrides <= {f"/{name}" for name in solution.files}


def test_every_web_resource_is_in_the_file_and_no_other(solution: Solution) -> None:
    described = set()
    for name, resource in solution.web_resources().items():
        path = one(resource, "FileName").text or ""
        key = (one(resource, "WebResourceId").text or "").strip("{}")
        assert path == f"/WebResources/{re.sub('[/.]', '', name)}{key.upper()}"
        assert 0 < len(solution.files[path[1:]]) < LARGEST_WEB_RESOURCE
        assert tags(resource) == [
            "WebResourceId", "Name", "DisplayName", "WebResourceType", "IntroducedVersion", "IsEnabledForMobileClient",
            "IsAvailableForMobileOffline", "IsCustomizable", "CanBeDeleted", "IsHidden", "FileName",
        ]  # fmt: skip
        described.add(path[1:])
    assert described == {name for name in solution.files if name.startswith("WebResources/")}


def test_the_whole_is_small(solution: Solution) -> None:
    assert len(build("1.4.2")) < 64 * 1024


# --- the manifest ----------------------------------------------------------------------------------------


def test_the_manifest_names_publisher_prefix_and_version(solution: Solution) -> None:
    manifest = one(solution.manifest, "SolutionManifest")
    assert tags(manifest) == [
        "UniqueName", "LocalizedNames", "Descriptions", "Version", "Managed", "Publisher", "RootComponents",
        "MissingDependencies",
    ]  # fmt: skip
    assert one(manifest, "Version").text == "1.4.2.0"
    publisher = one(manifest, "Publisher")
    prefix = one(publisher, "CustomizationPrefix").text or ""
    assert re.fullmatch("[a-z][a-z0-9]{1,7}", prefix)
    assert not prefix.startswith(("mscrm", "nav_"))
    assert 10000 <= int(one(publisher, "CustomizationOptionValuePrefix").text or 0) <= 99999
    assert [one(a, "AddressNumber").text for a in publisher.findall("Addresses/Address")] == ["1", "2"]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("0.1.0", "0.1.0.0"),
        ("1.2.3rc1", "1.2.3.0"),
        ("1.2.3.4.5", "1.2.3.4"),
        ("2", "2.0.0.0"),
        ("1.0.dev3+g1", "1.0.0.0"),
    ],
)
def test_the_version_of_the_solution_is_that_of_the_package(package: str, expected: str) -> None:
    assert solution_version(package) == expected


def test_the_version_of_this_package_makes_a_solution() -> None:
    assert re.fullmatch(r"\d+(\.\d+){3}", solution_version(version("navcrm")))


def test_every_root_component_is_defined_and_every_definition_is_a_root_component(solution: Solution) -> None:
    components = solution.manifest.findall("SolutionManifest/RootComponents/RootComponent")
    named = {(c.get("type"), c.get("schemaName") or c.get("id")) for c in components}
    roles = {("20", role.get("id")) for role in solution.all("Roles/Role")}
    defined = (
        {("1", name) for name in solution.entities()} | {("61", n) for n in solution.web_resources()} | roles
    )
    assert named == defined
    assert len(named) == len(components)


def test_of_crms_own_entities_only_a_shell_is_carried(solution: Solution) -> None:
    components = solution.manifest.findall("SolutionManifest/RootComponents/RootComponent")
    behavior = {c.get("schemaName"): c.get("behavior") for c in components if c.get("type") == "1"}
    assert behavior == dict.fromkeys(OURS, "0") | dict.fromkeys(WITH_BUTTON, "2")
    for name in WITH_BUTTON:
        assert tags(solution.entities()[name]) == ["Name", "EntityInfo", "RibbonDiffXml"]


# --- tables ----------------------------------------------------------------------------------------------


def test_the_parts_come_in_the_order_of_an_export(solution: Solution) -> None:
    assert tags(solution.custom) == ROOT_ORDER
    for name in OURS:
        entity = solution.entities()[name]
        assert tags(entity) == ENTITY_ORDER
        assert tags(one(entity, "EntityInfo/entity")) == TABLE_ORDER
        assert one(entity, "EntityInfo/entity").get("Name") == name


def test_every_column_has_what_its_kind_takes_in_that_order(solution: Solution) -> None:
    for table in OURS | {"account"}:
        for name, column in solution.columns(table).items():
            kind = one(column, "Type").text or ""
            assert tags(column) == [*COLUMN_ORDER, *OF_A_KIND[kind], "displaynames", "Descriptions"], name
            assert (column.get("PhysicalName") or "").lower() == name
            if kind == "nvarchar":
                assert int(one(column, "Length").text or 0) == 2 * int(one(column, "MaxLength").text or 0)


def test_every_table_has_its_key_its_name_and_its_state(solution: Solution) -> None:
    for table in OURS:
        kinds = {name: one(column, "Type").text for name, column in solution.columns(table).items()}
        assert [name for name, kind in kinds.items() if kind == "primarykey"] == [f"{table}id"]
        assert (kinds["statecode"], kinds["statuscode"]) == ("state", "status")
        masks = {name: one(c, "DisplayMask").text or "" for name, c in solution.columns(table).items()}
        assert [name for name, mask in masks.items() if "PrimaryName" in mask] == ["navcrm_name"]
        names = {o.get("Name") for c in solution.columns(table).values() for o in c.findall("optionset")}
        assert names == {f"{table}_statecode", f"{table}_statuscode"}


def test_only_our_prefix_is_given_to_columns_of_ours(solution: Solution) -> None:
    for table in OURS | {"account"}:
        for name, column in solution.columns(table).items():
            if one(column, "IsCustomField").text == "1":
                assert name.startswith("navcrm_")


def test_the_statistics_hold_the_figures_that_nav_gives(solution: Solution) -> None:
    money = {
        n for n, c in solution.columns("navcrm_accountstatistics").items() if one(c, "Type").text == "money"
    }
    assert {name.removeprefix("navcrm_") for name in money} == {
        "balancelcy", "outstandingorderslcy", "shippednotinvoicedlcy", "outstandinginvoiceslcy",
        "outstandingserviceorderslcy", "servshippednotinvoicedlcy", "outstandingservinvoiceslcy", "totallcy",
        "creditlimitlcy", "overdueamountslcy", "totalsaleslcy", "invoicedprepaymentamountlcy",
    }  # fmt: skip
    assert {"transactioncurrencyid", "exchangerate"} <= solution.columns("navcrm_accountstatistics").keys()


def test_every_lookup_has_a_relationship_with_two_ends(solution: Solution) -> None:
    found = {}
    for relationship in solution.all("EntityRelationships/EntityRelationship"):
        table = (one(relationship, "ReferencingEntityName").text or "").lower()
        column = (one(relationship, "ReferencingAttributeName").text or "").lower()
        found[table, column] = (one(relationship, "ReferencedEntityName").text or "").lower()
        ends = relationship.findall("EntityRelationshipRoles/EntityRelationshipRole")
        assert [one(end, "RelationshipRoleType").text for end in ends] == ["1", "0"]
        assert (one(ends[0], "NavigationPropertyName").text or "").lower() == column
        assert one(ends[1], "NavigationPropertyName").text == relationship.get("Name")
    lookups = {
        (table, name)
        for table in OURS | {"account"}
        for name, column in solution.columns(table).items()
        if one(column, "Type").text == "lookup"
    }
    assert found.keys() == lookups
    assert found["account", "navcrm_accountstatisticsid"] == "navcrm_accountstatistics"


# --- forms and views -------------------------------------------------------------------------------------


def test_forms_show_columns_of_their_table_with_the_control_of_their_kind(solution: Solution) -> None:
    control_of = {"nvarchar": "4273EDBD", "money": "533B9E00", "datetime": "5B773807"}
    for table in OURS:
        columns = solution.columns(table)
        for form in solution.entities()[table].findall("FormXml/forms/systemform"):
            assert tags(form) == [
                "formid", "IntroducedVersion", "FormPresentation", "FormActivationState", "form", "IsCustomizable",
                "CanBeDeleted", "LocalizedNames",
            ]  # fmt: skip
            controls = list(form.iter("control"))
            assert len(controls) >= 3
            for control in controls:
                kind = one(columns[control.get("datafieldname") or ""], "Type").text or ""
                assert control_of[kind] in (control.get("classid") or "")


def test_the_figures_have_a_quick_view_form_that_nobody_writes_in(solution: Solution) -> None:
    forms = solution.entities()["navcrm_accountstatistics"].findall("FormXml/forms")
    assert [form.get("type") for form in forms] == ["main", "quick"]
    controls = list(forms[1].iter("control"))
    assert "navcrm_balancelcy" in {control.get("id") for control in controls}
    assert {control.get("disabled") for control in controls} == {"true"}


def test_every_table_has_the_views_that_lists_and_lookups_need(solution: Solution) -> None:
    for table in OURS:
        views = solution.entities()[table].findall("SavedQueries/savedqueries/savedquery")
        assert [one(view, "querytype").text for view in views] == ["0", "1", "2", "4", "64"]
        for view in views:
            assert tags(view) == [
                "IsCustomizable", "CanBeDeleted", "isquickfindquery", "isprivate", "isdefault", "savedqueryid",
                "layoutxml", "querytype", "fetchxml", "IntroducedVersion", "LocalizedNames",
            ]  # fmt: skip
            shown = {cell.get("name") for cell in one(view, "layoutxml/grid/row")}
            read = {each.get("name") for each in view.findall("fetchxml/fetch/entity/attribute")}
            assert shown | {f"{table}id"} == read
            assert read <= solution.columns(table).keys()
        assert len(views[3].findall("fetchxml/fetch/entity/filter[@isquickfindfields='1']")) == 1


# --- ribbon ----------------------------------------------------------------------------------------------


def test_account_contact_and_user_have_the_button_on_their_forms(solution: Solution) -> None:
    for entity in WITH_BUTTON:
        ribbon = one(solution.entities()[entity], "RibbonDiffXml")
        action = one(ribbon, "CustomActions/CustomAction")
        assert action.get("Location") == f"Mscrm.Form.{entity}.MainTab.Save.Controls._children"
        function = one(ribbon, "CommandDefinitions/CommandDefinition/Actions/JavaScriptFunction")
        assert one(function, "CrmParameter").get("Value") == "PrimaryControl"
        assert one(ribbon, "RuleDefinitions/EnableRules/EnableRule/FormStateRule").get("State") == "Existing"


def test_what_a_ribbon_refers_to_is_there(solution: Solution) -> None:
    for entity in solution.entities().values():
        ribbon = one(entity, "RibbonDiffXml")
        assert tags(ribbon) == [
            "CustomActions",
            "Templates",
            "CommandDefinitions",
            "RuleDefinitions",
            "LocLabels",
        ]
        assert tags(one(ribbon, "RuleDefinitions")) == ["TabDisplayRules", "DisplayRules", "EnableRules"]
        commands = {each.get("Id") for each in ribbon.findall("CommandDefinitions/CommandDefinition")}
        assert {button.get("Command") for button in ribbon.iter("Button")} == commands
        rules = {each.get("Id") for each in ribbon.findall("RuleDefinitions/EnableRules/EnableRule")}
        used = ribbon.findall("CommandDefinitions/CommandDefinition/EnableRules/EnableRule")
        assert {each.get("Id") for each in used} == rules
        texts = {each.get("Id") for each in ribbon.findall("LocLabels/LocLabel")}
        assert set(references(ribbon, "$LocLabels:")) == texts
        assert set(references(ribbon, "$webresource:")) <= solution.web_resources().keys()


def test_the_function_of_the_button_is_in_the_script(solution: Solution) -> None:
    script = script_of(solution)
    for function in solution.custom.iter("JavaScriptFunction"):
        space, _, name = (function.get("FunctionName") or "").partition(".")
        assert f"var {space} =" in script
        assert re.search(rf"\b{name}: {name}\b", script)


def references(element: Element, mark: str) -> Iterator[str]:
    """The names that attributes below the element refer to."""
    for each in element.iter():
        for value in each.attrib.values():
            if value.startswith(mark):
                yield value.removeprefix(mark)


def script_of(solution: Solution) -> str:
    """The text of the script of the button."""
    path = one(solution.web_resources()["navcrm_/opennav.js"], "FileName").text or ""
    return solution.files[path[1:]].decode()


# --- ids, roles, texts -----------------------------------------------------------------------------------


def test_no_id_is_given_twice(solution: Solution) -> None:
    texts = [
        e.text or "" for e in solution.custom.iter() if e.tag in ("formid", "savedqueryid", "WebResourceId")
    ]
    in_forms = [e for form in solution.custom.iter("systemform") for e in form.iter()]
    with_id = [*solution.custom.iter("Role"), *(e for e in in_forms if e.tag in ("tab", "section", "cell"))]
    attributes = [e.get("id") or "" for e in with_id]
    ids = texts + attributes
    assert all(GUID.fullmatch(each) for each in ids), [each for each in ids if not GUID.fullmatch(each)]
    assert [each for each, times in Counter(ids).items() if times > 1] == []
    ribbon_ids = [
        e.get("Id") or ""
        for path in ("CustomActions/CustomAction", "CommandDefinitions/CommandDefinition", "LocLabels/LocLabel",
                     "RuleDefinitions/EnableRules/EnableRule", "CustomActions/CustomAction/CommandUIDefinition/Button")
        for ribbon in solution.custom.iter("RibbonDiffXml")
        for e in ribbon.findall(path)
    ]  # fmt: skip
    assert len(ribbon_ids) == len(set(ribbon_ids)) == 6 * len(WITH_BUTTON)
    assert all(each.startswith("navcrm.") for each in ribbon_ids)


def test_ids_stay_as_they_were_first_published(solution: Solution) -> None:
    """Another id would be another component beside the one that organizations already have."""
    roles = {role.get("name"): role.get("id") for role in solution.all("Roles/Role")}
    assert {name: UUID(key or "") for name, key in roles.items()} == {
        "NAV CRM Integration Administrator": UUID("7bb0e622-2a36-487d-87e8-06d15287c24e"),
        "NAV CRM Integration User": UUID("9364983f-99f3-4802-90d8-40e88655fabb"),
    }
    forms = [form.text for form in solution.custom.iter("formid")]
    assert forms == [
        "{ebcbcdc4-8cc4-4df1-ae71-db2367eea0b1}",
        "{c528383c-e94f-4092-92bd-f15459eaf65e}",
        "{6ff75e7d-526b-4ba9-837f-cb6df4377b90}",
    ]
    script = solution.web_resources()["navcrm_/opennav.js"]
    assert one(script, "WebResourceId").text == "{4458d55a-1c58-4977-97ed-9d644496b774}"


def test_people_read_our_tables_and_only_the_service_writes_them(solution: Solution) -> None:
    granted = {
        role.get("name"): {
            p.get("name"): p.get("level") for p in role.findall("RolePrivileges/RolePrivilege")
        }
        for role in solution.all("Roles/Role")
    }
    assert granted["NAV CRM Integration User"] == {
        "prvReadnavcrm_connection": "Global",
        "prvReadnavcrm_accountstatistics": "Global",
    }
    service = granted["NAV CRM Integration Administrator"]
    for table in (*sorted(OURS), "Account", "Contact"):
        for verb in ("Create", "Read", "Write", "Append", "AppendTo"):
            assert f"prv{verb}{table}" in service
    assert {
        "prvAssignAccount",
        "prvReadUser",
        "prvAppendToUser",
        "prvReadTransactionCurrency",
        "prvReadRole",
        "prvCreatePost",
        "prvReadPost",
        "prvAppendPost",
    } <= service.keys()
    assert set(service.values()) == {"Global"}
    assert not any(f"prv{verb}{table}" in service for verb in ("Assign", "Share") for table in OURS)


def test_an_organization_without_sales_gets_a_role_that_names_none_of_its_tables() -> None:
    with_sales, without = Solution(build("1.0")), Solution(build("1.0", sales=False))
    names = [{p.get("name") for p in s.custom.iter("RolePrivilege")} for s in (with_sales, without)]
    assert names[1] < names[0]
    assert {name for name in names[0] - names[1] if name and name.startswith("prvRead")} == {
        "prvReadProduct", "prvReadOpportunity", "prvReadQuote", "prvReadOrder", "prvReadInvoice", "prvReadIncident",
    }  # fmt: skip


def test_every_text_is_there_in_every_language_of_the_solution(solution: Solution) -> None:
    languages = {language.text for language in solution.all("Languages/Language")}
    used = {e.get("languagecode") for e in solution.custom.iter() if e.get("languagecode")}
    assert used == languages
    for tag in ("LocalizedName", "LocalizedCollectionName", "displayname", "label", "Title"):
        for element in solution.custom.iter(tag):
            assert element.get("description"), tag


def test_only_an_address_that_a_browser_opens_is_put_into_the_script() -> None:
    for url in (
        "javascript:alert(1)",
        "navcrm.example",
        "https://",
        "https://a.example/?x=1",
        "https://u@a.example",
    ):
        with pytest.raises(ValueError, match=r"address|more than"):
            build("1.0", url)
    script = script_of(Solution(build("1.0", "https://a.example/crm/")))
    assert 'var DEFAULT_SERVICE_URL = "https://a.example/crm";' in script
