"""The page of benchmarks is written by a program; what people add to it stays."""

from pathlib import Path

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
