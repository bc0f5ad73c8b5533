"""Templates: values for the records that a synchronization creates (nav-behaviour 4 and 6.5).

They come on top of the mapped values, and on insert only. A mapping names one of the templates below or
holds one itself, as the text of a JSON object: `{"Country_Region_Code": "GB"}`.
"""

import json
from collections.abc import Mapping

from app.domain.errors import InvalidMapping
from app.domain.records import Side, Value, Values

CUSTOMER_TYPE = 3  # account.customertypecode
VENDOR_TYPE = 11

CRM_TEMPLATES: Mapping[str, Values] = {
    "CRMACCOUNT": {"customertypecode": CUSTOMER_TYPE},
    "BCICUSTOME": {"customertypecode": CUSTOMER_TYPE},
    "BCIVENDOR": {"customertypecode": VENDOR_TYPE},
}
"""The templates that the default setup uses for records created in CRM. Those of NAV have no names here: the default
setup takes over the values of NAV's own (`use_cases.customer_template`)."""


def template_values(template: str | None, side: Side) -> Values:
    """The values of a template, by field of that side.

    Raises:
        InvalidMapping: there is no template of that name, or its text is not an object of plain values.
    """
    if template is None:
        return {}
    known = CRM_TEMPLATES if side is Side.CRM else {}
    if template in known:
        return known[template]
    if not template.lstrip().startswith("{"):
        names = ", ".join(sorted(known)) or "none"
        raise InvalidMapping(
            f"There is no {side.upper()} template {template}; known: {names}.",
            fix='Name a known template, or give its values: {"field": value}.',
        )
    return _inline(template)


def _inline(text: str) -> dict[str, Value]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidMapping(f"The template is not a JSON object: {error}.") from error
    plain = (str, int, bool, type(None))
    if not isinstance(values, dict) or not all(isinstance(value, plain) for value in values.values()):
        raise InvalidMapping("A template holds texts, whole numbers, true, false and null by field name.")
    return values


def completed(values: Values, template: str | None, side: Side) -> dict[str, Value]:
    """A new record with its template on top: what the template fills, wins (seed-checklist E-19)."""
    filled = template_values(template, side)
    return {**values, **{name: value for name, value in filled.items() if value not in (None, "")}}
