"""OData filters: text to tree, the fields a tree names, and whether a record matches it.

The trees are those of the odata-query library, so that each side can walk them into its own terms (SQL on the
NAV side, `$filter` on the CRM side). Added here: surrounding blanks, names that begin with a keyword
(`allowed`, `nullable`), one-element lists, and the Dataverse query functions with values in brackets
(`Microsoft.Dynamics.CRM.In(PropertyName='no',PropertyValues=['10000','20000'])`).

Truth has three values: a comparison with an empty field is unknown (None) unless it asks for null, and a
record matches only where the filter is true. Strings compare without regard to case.
"""

from app.filters.matching import (
    COMPARISONS,
    TURNED,
    Compare,
    Function,
    Getter,
    Literal,
    Predicate,
    Related,
    matches,
    predicate,
)
from app.filters.parsing import (
    DATAVERSE,
    MAXIMUM_DEPTH,
    FilterError,
    chain,
    conjuncts,
    literal_value,
    names,
    parameters,
    parse,
    path_of,
)
from app.filters.values import comparable, like_pattern

__all__ = [
    "COMPARISONS",
    "DATAVERSE",
    "MAXIMUM_DEPTH",
    "TURNED",
    "Compare",
    "FilterError",
    "Function",
    "Getter",
    "Literal",
    "Predicate",
    "Related",
    "chain",
    "comparable",
    "conjuncts",
    "like_pattern",
    "literal_value",
    "matches",
    "names",
    "parameters",
    "parse",
    "path_of",
    "predicate",
]
