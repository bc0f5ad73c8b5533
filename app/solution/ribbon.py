"""The button "Dynamics NAV" on the command bar of a form."""

from typing import Final
from xml.etree.ElementTree import Element

from app.solution.names import ICON, LANGUAGE, PREFIX, SCRIPT
from app.solution.xml import node

LABEL: Final = "Dynamics NAV"
TOOL_TIP: Final = "Open the coupled record in Dynamics NAV"
_SEQUENCE: Final = "53"


def button_xml(entity: str) -> Element:
    """RibbonDiffXml with the button on the forms of the entity; it is there once the record is saved."""
    own = f"{PREFIX}.{entity}.OpenNav"
    return _ribbon(
        actions=[_custom_action(entity, own)],
        commands=[_command(own)],
        rules=[
            node(
                "EnableRule",
                [node("FormStateRule", attributes={"State": "Existing"})],
                attributes={"Id": f"{own}.Existing"},
            )
        ],
        texts=[_text(f"{own}.Label", LABEL), _text(f"{own}.Tip", TOOL_TIP)],
    )


def empty_ribbon_xml() -> Element:
    """What a table without a button of its own has."""
    return _ribbon([], [], [], [])


def _ribbon(
    actions: list[Element], commands: list[Element], rules: list[Element], texts: list[Element]
) -> Element:
    return node(
        "RibbonDiffXml",
        [
            node("CustomActions", actions),
            node("Templates", [node("RibbonTemplates", attributes={"Id": "Mscrm.Templates"})]),
            node("CommandDefinitions", commands),
            node(
                "RuleDefinitions",
                [node("TabDisplayRules"), node("DisplayRules"), node("EnableRules", rules)],
            ),
            node("LocLabels", texts),
        ],
    )


def _custom_action(entity: str, own: str) -> Element:
    label = f"$LocLabels:{own}.Label"
    button = node(
        "Button",
        attributes={
            "Id": f"{own}.Button",
            "Command": f"{own}.Command",
            "Sequence": _SEQUENCE,
            "LabelText": label,
            "Alt": label,
            "ToolTipTitle": label,
            "ToolTipDescription": f"$LocLabels:{own}.Tip",
            "TemplateAlias": "o1",
            "ModernImage": f"$webresource:{ICON}",
        },
    )
    return node(
        "CustomAction",
        [node("CommandUIDefinition", [button])],
        attributes={
            "Id": f"{own}.CustomAction",
            "Location": f"Mscrm.Form.{entity}.MainTab.Save.Controls._children",
            "Sequence": _SEQUENCE,
        },
    )


def _command(own: str) -> Element:
    function = node(
        "JavaScriptFunction",
        [node("CrmParameter", attributes={"Value": "PrimaryControl"})],
        attributes={"FunctionName": "NavCrm.openFromForm", "Library": f"$webresource:{SCRIPT}"},
    )
    return node(
        "CommandDefinition",
        [
            node("EnableRules", [node("EnableRule", attributes={"Id": f"{own}.Existing"})]),
            node("DisplayRules"),
            node("Actions", [function]),
        ],
        attributes={"Id": f"{own}.Command"},
    )


def _text(name: str, text: str) -> Element:
    title = node("Title", attributes={"description": text, "languagecode": str(LANGUAGE)})
    return node("LocLabel", [node("Titles", [title])], attributes={"Id": name})
