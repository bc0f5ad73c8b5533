"""Whatever goes wrong on the way: no row twice, no write lost, no write reported that was not done."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.crm.client import Patience
from app.domain.errors import CrmRefused, CrmUnavailable, StaleRecord, Throttled
from app.ports import Delete, Insert, Refused, Update, Written
from app.sandbox import Fault, Limits
from app.sandbox.faults import Kind
from tests.crm_sandbox import QUICK, Crm, crm_in_process, crm_over_http

pytestmark = pytest.mark.anyio

IMPATIENT = Patience(tries=6, first_wait=0.01, longest=5, connect=30, read=1, read_per_part=0.01)
LOST: list[Kind] = [
    "429",
    "502",
    "503",
    "504",
    "reset_before_commit",
    "reset_after_commit",
    "truncated",
    "html",
]


@pytest.fixture
async def crm() -> AsyncIterator[Crm]:
    """CRM over TCP, where connections really break."""
    async with crm_over_http() as crm:
        await crm.store.definition("account")
        yield crm


@pytest.mark.parametrize("kind", [*LOST, "401", "not_json"])
async def test_every_write_of_a_set_arrives_once(crm: Crm, kind: Kind) -> None:
    # A token that is refused again right after it was renewed is refused for good.
    fault = Fault(r"POST .*/\$batch", kind, every=2, times=1 if kind == "401" else 3, retry_after=0.05)
    crm.faults(fault)
    ids = [uuid4() for _ in range(120)]
    created = await crm.store.write("account", [Insert(i, {"name": str(i)}) for i in ids])
    assert fault.struck
    assert [type(each) for each in created] == [Written] * len(ids)
    assert {row["name"] for row in crm.rows("account").values()} == {str(i) for i in ids}
    fault.struck = 0
    updates = [
        Update(each.id, {"telephone1": "1"}, each.snapshot.version)
        for each in created
        if isinstance(each, Written) and each.snapshot
    ]
    changed = await crm.store.write("account", updates)
    assert [type(each) for each in changed] == [Written] * len(ids)
    shown = await crm.store.get("account", ids, ["telephone1"])
    for each in changed:
        assert isinstance(each, Written)
        assert each.snapshot is not None
        assert each.snapshot.version == shown[each.id].version
    fault.struck = 0
    deleted = await crm.store.write("account", [Delete(i) for i in ids])
    assert [type(each) for each in deleted] == [Written] * len(ids)
    assert crm.rows("account") == {}


@pytest.mark.parametrize("kind", LOST)
async def test_one_write_alone_survives_too(crm: Crm, kind: Kind) -> None:
    record_id = uuid4()
    crm.faults(Fault(r"PATCH .*", kind, times=1, retry_after=0.05))
    [created] = await crm.store.write("account", [Insert(record_id, {"name": "Adatum"})])
    assert isinstance(created, Written)
    assert created.created
    assert created.snapshot is not None
    crm.faults(Fault(r"PATCH .*", kind, times=1, retry_after=0.05))
    update = Update(record_id, {"name": "Adatum Ltd."}, created.snapshot.version)
    [changed] = await crm.store.write("account", [update])
    assert isinstance(changed, Written)
    assert [row["name"] for row in crm.rows("account").values()] == ["Adatum Ltd."]


async def test_a_lost_update_that_somebody_else_overtook_is_stale(crm: Crm) -> None:
    [created] = await crm.store.write("account", [Insert(uuid4(), {"name": "Adatum"})])
    assert isinstance(created, Written)
    assert created.snapshot is not None
    await crm.store.write("account", [Update(created.id, {"name": "Theirs"})])
    crm.faults(Fault(r"PATCH .*", "reset_before_commit", times=1))
    [outcome] = await crm.store.write(
        "account", [Update(created.id, {"name": "Ours"}, created.snapshot.version)]
    )
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, StaleRecord)
    assert crm.rows("account")[str(created.id)]["name"] == "Theirs"


@pytest.mark.parametrize("kind", [*LOST, "401", "not_json"])
async def test_reading_survives_too(crm: Crm, kind: Kind) -> None:
    ids = [uuid4() for _ in range(30)]
    await crm.store.write("account", [Insert(i, {"name": str(i)}) for i in ids])
    crm.store._page_size = 10
    crm.faults(Fault(r"GET .*/accounts", kind, every=2, times=1 if kind == "401" else 3, retry_after=0.05))
    seen = [
        record.id async for page in crm.store.changes("account", ["name"], None) for record in page.records
    ]
    assert set(seen) == set(ids)


async def test_an_answer_that_takes_too_long_is_asked_for_again() -> None:
    async with crm_over_http(IMPATIENT) as crm:
        await crm.store.definition("account")
        record_id = uuid4()
        crm.faults(Fault(r"PATCH .*", "hang", times=1, seconds=1.5))
        [created] = await crm.store.write("account", [Insert(record_id, {"name": "Adatum"})])
        assert isinstance(created, Written)
        assert list(crm.rows("account")) == [str(record_id)]


async def test_what_stays_broken_is_crm_unavailable(crm: Crm) -> None:
    crm.faults(Fault(r"POST .*/\$batch", "reset_before_commit"))
    with pytest.raises(CrmUnavailable) as lost:
        await crm.store.write("account", [Insert(uuid4(), {"name": str(n)}) for n in range(20)])
    assert lost.value.code == "crm-unavailable"
    assert crm.requests.count("POST 0 $batch") == 2 * QUICK.tries


async def test_a_batch_that_is_lost_does_not_take_the_others_with_it() -> None:
    async with crm_in_process(lanes=2) as crm:
        await crm.store.definition("account")
        crm.faults(Fault(r"POST .*/\$batch", "502", after=1))
        outcomes = await crm.store.write("account", [Insert(uuid4(), {"name": str(n)}) for n in range(40)])
        assert [type(each) for each in outcomes] == [Written] * 20 + [Refused] * 20
        assert all(isinstance(each.error, CrmUnavailable) for each in outcomes if isinstance(each, Refused))


async def test_a_lost_look_after_a_lost_answer_costs_only_the_rows_in_doubt(crm: Crm) -> None:
    known = uuid4()
    await crm.store.write("account", [Insert(known, {"name": "Known"})])
    crm.faults(Fault(r"GET .*/accounts", "502"))
    found, new = await crm.store.write(
        "account", [Insert(known, {"name": "Known"}), Insert(uuid4(), {"name": "New"})]
    )
    assert isinstance(found, Refused)
    assert isinstance(found.error, CrmUnavailable)
    assert isinstance(new, Written)


async def test_a_long_wait_is_handed_to_the_caller(crm: Crm) -> None:
    crm.faults(Fault(r"GET .*/accounts", "429", retry_after=120))
    with pytest.raises(Throttled) as throttled:
        await crm.store.get("account", [uuid4()], ["name"])
    assert throttled.value.retry_after.total_seconds() >= 120
    with pytest.raises(Throttled):  # and nobody knocks meanwhile
        await crm.store.get("account", [uuid4()], ["name"])
    assert crm.requests.count("GET 429 accounts") == 1


async def test_the_limits_of_the_service_are_kept_in_the_end() -> None:
    limits = Limits(requests=15, seconds=2)  # half of the requests to come, in far more time than they take
    async with crm_in_process(limits=limits, lanes=8) as crm:
        await crm.store.definition("account")
        ids = [uuid4() for _ in range(400)]
        for start in range(0, 400, 100):
            some = [Insert(i, {"name": str(i)}) for i in ids[start : start + 100]]
            outcomes = await crm.store.write("account", some)
            assert [type(each) for each in outcomes] == [Written] * 100
        assert len(crm.rows("account")) == 400
        assert any(" 429 " in request for request in crm.requests)


async def test_a_plugin_that_refuses_is_not_asked_twice(crm: Crm) -> None:
    crm.faults(Fault(r"PATCH .*", "400"))
    crm.forget_requests()
    [outcome] = await crm.store.write("account", [Insert(uuid4(), {"name": "Adatum"})])
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, CrmRefused)
    assert len(crm.requests) == 1
