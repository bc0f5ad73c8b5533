"""Every row of the checklist of the five pages has a test that is named after it.

The checklist is no part of the product: its ids are kept here, and compared with the checklist itself where that lies
beside the working copy.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
CHECKLIST = HERE.parents[2] / "shared" / "spec" / "seed-checklist.md"
ROWS = {"D0": 21, "D1": 41, "D2": 19, "D3": 40, "D4": 15, "E": 47}
"""How many rows each part has, numbered from 1."""
IDS = {f"{part}-{number:02}" for part, rows in ROWS.items() for number in range(1, rows + 1)}
NAMED = re.compile(r"^async def test_(D[0-4]|E)_(\d\d)_", re.MULTILINE)


def named_after() -> set[str]:
    """The ids that tests of this folder are named after."""
    texts = (path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    return {f"{part}-{number}" for text in texts for part, number in NAMED.findall(text)}


def test_every_row_of_the_checklist_has_a_test() -> None:
    assert sorted(IDS - named_after()) == []


def test_every_test_is_named_after_a_row() -> None:
    assert sorted(named_after() - IDS) == []


def test_the_rows_are_those_of_the_checklist() -> None:
    text = (
        CHECKLIST.read_text(encoding="utf-8") if CHECKLIST.exists() else "".join(f"| {id} |\n" for id in IDS)
    )
    found = re.findall(r"^\| ((?:D[0-4]|E)-\d\d) \|", text, re.MULTILINE)
    assert sorted(found) == sorted(IDS)
