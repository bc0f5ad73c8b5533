"""What every RecordStore promises, whatever stands behind it.

A subclass names a table and its fields and gives a fixture `store`; its class must carry `pytest.mark.anyio`.
"""

import gc
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID, uuid4

import pytest

from app.domain.errors import InvalidFilter, NotFound, StaleRecord, TableNotFound
from app.domain.records import Snapshot, Value, Values
from app.ports import Delete, Insert, Page, RecordStore, Refused, Update, Write, Written

AWKWARD_NAMES = (
    "Spotsmeyer's Furnishings",
    'O\'Reilly & Sons "The Yard" Ltd. <UK>',
    "100% Cotton + More #1 / Outlet? = 50%off",
    "Backslash \\ and [brackets] and _underscore_",
    "Žluťoučký kůň & synové s.r.o.",
    "Ærøskøbing Smørrebrød ApS",
    "Ελληνική Εταιρεία Ποδηλάτων",
    "Велосипеды Москва",
    "株式会社さくら商事",
    "شركة الدراجات",
    "Café Zoë 🚲 Rentals",
    "Cafe\u0301 with a combining accent",
    " Leading and  doubled blanks",
)


class RecordStoreContract:
    """The promises of ports.RecordStore."""

    table: str
    name: str  # a text field of at least 50 characters
    city: str  # another text field
    refused: ClassVar[Values]  # values that the side does not take

    def insert(self, record_id: UUID, values: Values) -> Insert:
        """A create; a side whose records need a number says so here."""
        return Insert(record_id, values)

    # --- writing ---

    async def test_an_insert_answers_with_the_record_as_it_was_stored(self, store: RecordStore) -> None:
        record_id = uuid4()
        [written] = await self.writing(store, [self.insert(record_id, self.values("Adatum", "London"))])
        assert written.created
        assert written.snapshot is not None
        assert written.snapshot.id == record_id
        assert written.snapshot.version
        assert self.seen(written.snapshot) == ("Adatum", "London")
        assert await self.present(store, record_id) == ("Adatum", "London")

    async def test_an_insert_of_an_id_that_exists_finds_it_and_changes_nothing(
        self, store: RecordStore
    ) -> None:
        record_id = uuid4()
        again = self.insert(record_id, self.values("Adatum", "London"))
        await self.writing(store, [again])
        await self.writing(store, [Update(record_id, {self.city: "Leeds"})])
        [found] = await self.writing(store, [again])
        assert not found.created
        assert found.snapshot is not None
        assert self.seen(found.snapshot) == ("Adatum", "Leeds")
        assert await self.present(store, record_id) == ("Adatum", "Leeds")

    async def test_an_update_changes_its_fields_and_the_version(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        [new] = await self.writing(store, [Update(old.id, {self.city: "York"}, old.version)])
        assert new.snapshot is not None
        assert new.snapshot.version != old.version
        assert new.snapshot.values[self.city] == "York"
        assert await self.present(store, old.id) == ("Adatum", "York")

    async def test_the_version_of_a_write_is_the_one_that_reading_shows(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        [new] = await self.writing(store, [Update(old.id, {self.city: "York"}, old.version)])
        shown = (await store.get(self.table, [old.id], [self.name]))[old.id]
        assert new.snapshot is not None
        assert new.snapshot.version == shown.version

    async def test_a_stale_write_is_refused_alone(self, store: RecordStore) -> None:
        old, other = await self.existing(store, "Adatum", "Litware")
        await self.writing(store, [Update(old.id, {self.city: "York"})])
        stale, fine = await store.write(
            self.table,
            [
                Update(old.id, {self.city: "Bath"}, old.version),
                Update(other.id, {self.city: "Bath"}, other.version),
            ],
        )
        assert isinstance(stale, Refused)
        assert isinstance(stale.error, StaleRecord)
        assert isinstance(fine, Written)
        assert await self.present(store, old.id) == ("Adatum", "York")
        assert await self.present(store, other.id) == ("Litware", "Bath")

    async def test_an_update_never_creates(self, store: RecordStore) -> None:
        missing = uuid4()
        [outcome] = await store.write(self.table, [Update(missing, self.values("Nobody", "Nowhere"))])
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, NotFound)
        assert await store.get(self.table, [missing], [self.name]) == {}

    async def test_a_bad_row_fails_alone_and_answers_keep_their_order(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        good, bad = uuid4(), uuid4()
        outcomes = await store.write(
            self.table,
            [
                self.insert(bad, {**self.values("Bad", "London"), **self.refused}),
                Update(old.id, {self.city: "York"}, old.version),
                self.insert(good, self.values("Good", "London")),
            ],
        )
        assert [outcome.id for outcome in outcomes] == [bad, old.id, good]
        assert [type(outcome) for outcome in outcomes] == [Refused, Written, Written]
        assert set(await store.get(self.table, [bad, good], [self.name])) == {good}

    async def test_what_is_deleted_is_gone_and_deleting_it_again_is_no_error(
        self, store: RecordStore
    ) -> None:
        [old] = await self.existing(store, "Adatum")
        for _ in range(2):
            [outcome] = await self.writing(store, [Delete(old.id)])
            assert outcome.snapshot is None
        assert await store.get(self.table, [old.id], [self.name]) == {}

    async def test_a_stale_delete_is_refused(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        await self.writing(store, [Update(old.id, {self.city: "York"})])
        [outcome] = await store.write(self.table, [Delete(old.id, old.version)])
        assert isinstance(outcome, Refused)
        assert isinstance(outcome.error, StaleRecord)
        assert await self.present(store, old.id) == ("Adatum", "York")

    async def test_a_field_can_be_emptied(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        await self.writing(store, [Update(old.id, {self.city: None})])
        assert not (await store.get(self.table, [old.id], [self.city]))[old.id].values[self.city]

    async def test_nothing_written_is_nothing_answered(self, store: RecordStore) -> None:
        assert await store.write(self.table, []) == []

    async def test_awkward_names_survive_both_ways(self, store: RecordStore) -> None:
        ids = {name: uuid4() for name in AWKWARD_NAMES}
        await self.writing(store, [self.insert(i, self.values(name, "X")) for name, i in ids.items()])
        found = await store.get(self.table, list(ids.values()), [self.name])
        assert {name: found[i].values[self.name] for name, i in ids.items()} == {n: n for n in ids}

    # --- reading ---

    async def test_get_answers_what_exists_and_leaves_out_the_rest(self, store: RecordStore) -> None:
        one, other = await self.existing(store, "Adatum", "Litware")
        found = await store.get(self.table, [one.id, uuid4(), other.id], [self.name])
        assert {i: snapshot.values[self.name] for i, snapshot in found.items()} == {
            one.id: "Adatum",
            other.id: "Litware",
        }
        assert await store.get(self.table, [], [self.name]) == {}

    async def test_match_finds_by_value_whatever_the_value_holds(self, store: RecordStore) -> None:
        ids = {name: uuid4() for name in AWKWARD_NAMES}
        await self.writing(store, [self.insert(i, self.values(name, "X")) for name, i in ids.items()])
        found = await store.match(self.table, self.name, [*AWKWARD_NAMES, "Nobody"], [self.city])
        assert {name: [s.id for s in some] for name, some in found.items() if some} == {
            name: [i] for name, i in ids.items()
        }

    async def test_match_finds_every_record_of_a_value(self, store: RecordStore) -> None:
        twins = await self.existing(store, "Twin Ltd.", "Twin Ltd.")
        found = await store.match(self.table, self.name, ["Twin Ltd."])
        assert {s.id for s in found["Twin Ltd."]} == {s.id for s in twins}

    async def test_a_listing_shows_every_record_once_page_by_page(self, store: RecordStore) -> None:
        created = await self.existing(store, *(f"Listed {n}" for n in range(7)))
        seen: list[UUID] = []
        cursor = None
        for _ in range(50):
            listing = await store.listing(self.table, [self.name], limit=3, cursor=cursor)
            seen += [record.id for record in listing.records]
            cursor = listing.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen))
        assert {record.id for record in created} <= set(seen)

    async def test_a_listing_can_be_filtered_and_searched(self, store: RecordStore) -> None:
        await self.existing(store, "Alpine Ski House", "Alpine 100%", "Litware")
        by_filter = await store.listing(self.table, [self.name], filter=f"{self.name} eq 'Litware'")
        assert [r.values[self.name] for r in by_filter.records] == ["Litware"]
        by_search = await store.listing(self.table, [self.name], search="alpine")
        assert {r.values[self.name] for r in by_search.records} == {"Alpine Ski House", "Alpine 100%"}
        literal = await store.listing(self.table, [self.name], search="100%")
        assert [r.values[self.name] for r in literal.records] == ["Alpine 100%"]

    @pytest.mark.parametrize("text", ["nonsense eq", "no_such_field eq 'x'"])
    async def test_a_filter_that_makes_no_sense_is_refused(self, store: RecordStore, text: str) -> None:
        with pytest.raises(InvalidFilter):
            await store.listing(self.table, [self.name], filter=text)

    async def test_an_unknown_table_is_named(self, store: RecordStore) -> None:
        with pytest.raises(TableNotFound, match="no_such_table"):
            await store.definition("no_such_table")

    async def test_the_definition_knows_the_fields(self, store: RecordStore) -> None:
        definition = await store.definition(self.table)
        assert definition.fields[self.name].length is not None
        assert definition.primary_key

    # --- changes ---

    async def test_a_first_look_shows_everything_and_the_next_nothing(self, store: RecordStore) -> None:
        created = await self.existing(store, "Adatum", "Litware")
        records, _, watermark = await self.changed(store, None)
        assert {record.id for record in created} <= set(records)
        records, deleted, again = await self.changed(store, watermark)
        assert (records, deleted) == ({}, set())
        assert again is not None

    async def test_who_takes_the_records_out_of_a_page_is_the_only_one_to_hold_them(
        self, store: RecordStore
    ) -> None:
        """Or a run would hold two pages, the last beside the next."""
        created = {each.id for each in await self.existing(store, "Adatum", "Litware")}
        taken: set[UUID] = set()
        async for page in store.changes(self.table, [self.name], None):
            taken |= {record.id for record in page.records}
            shown = {id(record) for record in page.records}
            page.records.clear()
            assert not [each for each in gc.get_objects() if type(each) is Snapshot and id(each) in shown]
        assert created <= taken

    async def test_changes_continue_from_the_watermark_with_deletions(self, store: RecordStore) -> None:
        changed, deleted, still = await self.existing(store, "Changed", "Deleted", "Still")
        _, _, watermark = await self.changed(store, None)
        new = uuid4()
        await self.writing(
            store,
            [
                Update(changed.id, {self.city: "York"}),
                Delete(deleted.id),
                self.insert(new, self.values("New", "Bath")),
            ],
        )
        records, gone, watermark = await self.changed(store, watermark)
        assert set(records) == {changed.id, new}
        assert gone == {deleted.id}
        assert self.seen(records[changed.id]) == ("Changed", "York")
        assert still.id not in records
        assert (await self.changed(store, watermark))[:2] == ({}, set())

    async def test_a_change_carries_the_version_that_reading_shows(self, store: RecordStore) -> None:
        [old] = await self.existing(store, "Adatum")
        records, _, _ = await self.changed(store, None)
        assert records[old.id].version == old.version

    async def test_whether_anything_changed_is_told_by_watermark(self, store: RecordStore) -> None:
        old, gone = await self.existing(store, "Adatum", "Litware")
        before = (self.table, await self.watermark(store))
        assert await store.changed([before]) == set()
        await self.writing(store, [Update(old.id, {self.city: "York"})])
        between = (self.table, await self.watermark(store))
        assert await store.changed({before, between}) == {before}
        await self.writing(store, [Delete(gone.id)])
        assert await store.changed([before, between]) == {before, between}
        assert await store.changed([]) == set()

    async def watermark(self, store: RecordStore) -> str:
        """Up to where everything has been read."""
        _, _, watermark = await self.changed(store, None)
        assert watermark is not None
        return watermark

    # --- help ---

    def values(self, name: str, city: str) -> dict[str, Value]:
        """The values of a record."""
        return {self.name: name, self.city: city}

    def seen(self, snapshot: Snapshot) -> tuple[Value, Value]:
        """Name and city of a record."""
        return snapshot.values[self.name], snapshot.values[self.city]

    async def present(self, store: RecordStore, record_id: UUID) -> tuple[Value, Value]:
        """Name and city as the side shows them now."""
        return self.seen((await store.get(self.table, [record_id], [self.name, self.city]))[record_id])

    async def writing(self, store: RecordStore, writes: Sequence[Write]) -> list[Written]:
        """Writes that must succeed."""
        outcomes = await store.write(self.table, writes)
        written = [outcome for outcome in outcomes if isinstance(outcome, Written)]
        assert len(written) == len(writes), [o.error for o in outcomes if isinstance(o, Refused)]
        return written

    async def existing(self, store: RecordStore, *names: str) -> list[Snapshot]:
        """Records of these names, as they are now."""
        ids = [uuid4() for _ in names]
        await self.writing(
            store, [self.insert(i, self.values(n, "London")) for i, n in zip(ids, names, strict=True)]
        )
        found = await store.get(self.table, ids, [self.name, self.city])
        return [found[record_id] for record_id in ids]

    async def changed(
        self, store: RecordStore, since: str | None
    ) -> tuple[dict[UUID, Snapshot], set[UUID], str | None]:
        """All pages together: records by id, what was deleted, and the last watermark."""
        records: dict[UUID, Snapshot] = {}
        deleted: set[UUID] = set()
        last: Page | None = None
        async for page in store.changes(self.table, [self.name, self.city], since):
            records |= {record.id: record for record in page.records}
            deleted |= set(page.deleted)
            last = page
        assert last is not None, "there is always a page, if an empty one"
        assert last.watermark is not None, "the last page can be continued from"
        return records, deleted, last.watermark
