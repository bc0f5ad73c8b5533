"""Which key an option of CRM gets in NAV."""

import pytest

from app.domain.records import FieldDefinition, FieldType, Option, TableDefinition
from app.use_cases.options import option_keys

CODE = FieldDefinition("Code", "Code", FieldType.CODE, 10, key=True, number=1)
TERMS = TableDefinition("payment-terms", "Payment Terms", {"Code": CODE}, ("Code",))


@pytest.mark.parametrize(
    "label, key",
    [
        ("Net 30", "NET30"),
        ("2% 10; Net 30", "2%10NET30"),
        ("No Charge", "NOCHARGE"),
        ("Postal-Mail", "POSTALMAIL"),
        ("on_demand", "ONDEMAND"),
        ("A label that is too long", "ALABELTHAT"),
        ("Größe", "GRÖßE"),
    ],
)
def test_the_key_is_the_label_in_capitals_without_blanks_and_punctuation(label: str, key: str) -> None:
    assert list(option_keys(TERMS, [Option(1, label, label)])) == [key]


def test_blank_options_have_no_key_and_the_first_of_two_alike_counts() -> None:
    options = [
        Option(-1, " ", " "),
        Option(0, "", ""),
        Option(1, "Net 30", "Net 30"),
        Option(2, "Net-30", "Net-30"),
    ]
    assert {key: option.value for key, option in option_keys(TERMS, options).items()} == {"NET30": 1}
