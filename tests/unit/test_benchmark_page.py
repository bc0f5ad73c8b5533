"""The page of benchmarks is written by a program; what people add to it stays."""

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import report


def test_what_a_person_wrote_into_the_page_stays_when_it_is_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    report.write(page, {}, "python3 dev.py bench", 60)
    begin, end = report.NOTES
    page.write_text(page.read_text().replace(end, f"The machine was busy.\n\nSo it was.\n{end}"))
    report.write(page, {}, "python3 dev.py bench --size large", 120)
    written = page.read_text()
    assert f"{begin}\nThe machine was busy.\n\nSo it was.\n{end}" in written
    assert written.count(begin) == 1
    assert "--size large" in written


CHANGES = {
    "rows": 1000,
    "from_crm": 0.3,
    "from_crm_microsoft": 0.3,
    "from_crm_microsoft_bare": 0.1,
    "from_crm_requests": 1,
    "to_crm": 0.3,
    "to_crm_microsoft": 0.15,
    "to_crm_microsoft_bare": 0.1,
    "to_crm_requests": 8,
}
LOAD = {"cpu": 2.0, "statements": 200, "bound": 1.0, "microsoft": 1.9, "microsoft_bare": 0.9}
FROM = {**LOAD, "service": 1.8, "service_requests": 21, "changes": CHANGES, "written_again": 0}
FOUND: dict[str, Any] = {
    "loads": {
        "from": {"100000": FROM},
        "to": {"100000": {**LOAD, "service": 1.5, "service_requests": 800, "lanes": 8}},
    },
    "real": {
        "service": 2.0,
        "bound": 1.8,
        "microsoft": 20.0,
        "microsoft_bare": 20.0,
        "changes": {"rows": 1000, "service": 1.0, "microsoft": 10.0},
    },
}


@pytest.mark.parametrize(
    "what, beside_the_complete, beside_the_bare",
    [
        ("first load from CRM, 100,000", "0.95 times | 1.0 | yes", "2.00 times |  | "),
        ("first load into CRM, 100,000", "0.79 times |  | ", "1.67 times |  | "),
        ("1000 of 100,000 changed in CRM", "1.00 times | 1.5 | yes", "3.00 times |  | "),
        ("1000 of 100,000 changed in NAV", "2.00 times | 1.5 | **no**", "3.00 times |  | "),
        ("`real`, 2,000 creates", "0.10 times | 0.1 | yes", "0.10 times |  | "),
    ],
)
def test_what_must_be_is_said_beside_the_script_that_may_be_run_again(
    tmp_path: Path, what: str, beside_the_complete: str, beside_the_bare: str
) -> None:
    page = tmp_path / "benchmarks.md"
    report.write(page, FOUND, "python3 dev.py bench", 60)
    lines = page.read_text().splitlines()
    assert f"| {what}, to Microsoft's client | {beside_the_complete} |" in lines
    assert f"| {what}, to a script that keeps nothing, on Microsoft's client | {beside_the_bare} |" in lines
    assert "| `real`, 1,000 of 2,000 changed in NAV, to Microsoft's client | 0.10 times |  |  |" in lines


def test_first_loads_show_the_seconds_of_every_script(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    report.write(page, FOUND, "python3 dev.py bench", 60)
    assert "| from CRM, 100,000 | 1.8 | 2.0 | 1.0 | 1.9 | 0.9 |" in page.read_text().splitlines()


@pytest.mark.parametrize(
    "still_loading, said", [(True, "while a load runs"), (False, "while a load runs, which ended before")]
)
def test_the_page_says_whether_the_load_beside_the_api_lasted(
    tmp_path: Path, still_loading: bool, said: str
) -> None:
    one = {"rate": 2000.0, "p99": 10.0}
    measures = dict.fromkeys(("api", "bare", "api_loaded", "bare_loaded"), one)
    page = tmp_path / "benchmarks.md"
    report.write(page, {"api": {**measures, "still_loading": still_loading}}, "python3 dev.py bench", 60)
    assert f"| API, one record, rate beside a bare endpoint, {said} | 1.00 " in page.read_text()
