"""Filters that people write, in CRM's terms: checked against the entity, lookups under their names on the wire."""

import re

from app.crm.metadata import CrmTable
from app.domain.errors import FieldProblem, InvalidFilter
from app.domain.records import FieldType
from app.filters import FilterError, names, parse

# Text in quotes stays as it is; a path into another entity (`primarycontactid/fullname`) is one word.
_WORDS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[A-Za-z_@][\w.@]*(?:/[\w.]+)*""")


def crm_filter(table: CrmTable, text: str) -> str:
    """The filter as CRM takes it: `parentcustomerid eq null` becomes `_parentcustomerid_value eq null`.

    Raises InvalidFilter, naming an attribute that the entity does not have or where the text cannot be read.
    """
    try:
        used = names(parse(text))
    except FilterError as error:
        raise invalid_filter(error.message) from error
    properties = {field.name: table.property_of(field) for field in table.definition.fields.values()}
    known = set(properties) | set(properties.values())
    unknown = sorted(name for name in used if "/" not in name and name not in known)
    if unknown:
        raise invalid_filter(
            f"{table.name} has no attribute {', '.join(unknown)}.",
            f"GET …/crm-entities/{table.entity_set} lists its attributes.",
        )
    lookups = {
        field.name: properties[field.name]
        for field in table.definition.fields.values()
        if field.type is FieldType.LOOKUP
    }
    return _WORDS.sub(lambda word: lookups.get(word[0], word[0]), text.strip())


def invalid_filter(message: str, fix: str | None = None, parameter: str = "filter") -> InvalidFilter:
    """What is wrong with a filter or the cursor of a list."""
    return InvalidFilter(message, fix=fix, errors=[FieldProblem(parameter, message)])
