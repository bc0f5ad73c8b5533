"""The log, API keys, idempotency keys, workers and secrets."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.secrets import Rotation, Vault, rotate
from app.db.unit_of_work import SqlUnitOfWork
from app.domain.access import ApiKey, Scope
from app.domain.coupling import Changes, Failure, Outcome, SynchAction
from app.domain.errors import Busy, IdempotencyKeyReused, NotFound, SecretsUnreadable
from app.domain.records import Side
from app.ports import Arrival, StoredAnswer, Transaction
from tests.integration.db.memory import (
    KEY,
    NOON,
    Statements,
    a_company,
    a_job,
    a_memory,
    a_setup,
    as_a_request,
)

pytestmark = pytest.mark.anyio
COUPLING = UUID(int=9)


def a_write(old: str, new: str) -> Outcome:
    return Outcome(
        SynchAction.MODIFIED,
        direction="to_crm",
        nav_table="customers",
        nav_key="10000",
        nav_id=UUID(int=1),
        crm_entity="account",
        crm_id=UUID(int=2),
        coupling_id=COUPLING,
        changes=Changes(
            Side.CRM,
            {"name": new, "creditlimit": None},
            {"name": old, "creditlimit": Decimal("10.50")},
        ),
        extra={"mapping": "CUSTOMER"},
    )


def a_rename(old: str, new: str) -> Outcome:
    """A write of a single field."""
    return replace(a_write(old, new), changes=Changes(Side.CRM, {"name": new}, {"name": old}))


FAILED = Outcome(
    SynchAction.FAILED, nav_key="20000", error=Failure("crm-refused", "No.", "Ask.", True), message="No."
)


async def test_outcomes_come_back_in_order_and_by_their_action(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    job = a_job()
    outcomes = [a_write("A", "B"), FAILED, Outcome(SynchAction.SKIPPED, reason="filtered")]
    statements = Statements(engine)
    async with memory() as tx:
        await tx.jobs.add(company.id, [job])
        before = statements.count
        await tx.synch_log.add(company.id, job.id, outcomes * 300, NOON)
        assert statements.count - before <= 2
        logged = await tx.synch_log.outcomes(company.id, job.id, None, 0, 3)
        rest = await tx.synch_log.outcomes(company.id, job.id, None, logged[-1].position, 1000)
        failed = await tx.synch_log.outcomes(company.id, job.id, "failed", 0, 1000)
    assert [one.outcome for one in logged] == outcomes
    assert {(one.job_id, one.at) for one in logged} == {(job.id, NOON)}
    assert (len(rest), len(failed)) == (897, 300)


async def test_the_outcomes_of_a_parent_are_those_of_its_children(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    parent = a_job(None)
    child = a_job(parent_id=parent.id)
    async with memory() as tx:
        await tx.jobs.add(company.id, [parent, child])
        await tx.synch_log.add(company.id, child.id, [FAILED], NOON)
        assert len(await tx.synch_log.outcomes(company.id, parent.id, None, 0, 9)) == 1
        assert len(await tx.synch_log.errors(company.id, job_id=parent.id)) == 1


async def test_errors_are_listed_newest_first_by_mapping_and_code(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company, other = await a_company(memory), await a_company(memory, "fabrikam")
    contact = replace(FAILED, error=Failure("filtered", "Outside."), extra={"mapping": "CONTACT"})
    async with memory() as tx:
        job = a_job("CUSTOMER")
        await tx.jobs.add(company.id, [job])
        await tx.synch_log.add(company.id, job.id, [FAILED, a_write("A", "B"), contact, FAILED], NOON)
        errors = await tx.synch_log.errors(company.id, limit=2)
        older = await tx.synch_log.errors(company.id, after=errors[-1].position)
        by_mapping = await tx.synch_log.errors(company.id, mapping="CUSTOMER")
        by_code = await tx.synch_log.errors(company.id, code="filtered")
        assert await tx.synch_log.errors(other.id) == []
    assert [one.outcome for one in errors + older] == [FAILED, contact, FAILED]
    assert [one.outcome for one in by_mapping] == [FAILED, FAILED]
    assert [one.outcome for one in by_code] == [contact]


async def test_the_history_of_a_coupling_is_every_field_that_was_written(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        await tx.synch_log.add(company.id, None, [a_write("A", "B")], NOON)
        await tx.synch_log.add(company.id, None, [a_write("B", "C")], NOON + timedelta(minutes=1))
        first = await tx.synch_log.history(company.id, COUPLING, None, 3)
        rest = await tx.synch_log.history(company.id, COUPLING, first[-1]["position"], 3)
    writes = [(one["side"], one["field"], one["old"], one["new"]) for one in [*first, *rest]]
    assert writes == [
        (Side.CRM, "name", "B", "C"),
        (Side.CRM, "creditlimit", Decimal("10.50"), None),
        (Side.CRM, "name", "A", "B"),
        (Side.CRM, "creditlimit", Decimal("10.50"), None),
    ]


async def test_a_page_of_history_is_full_after_one_that_ended_with_the_last_field_of_a_write(
    engine: AsyncEngine,
) -> None:
    memory = a_memory(engine)
    company = await a_company(memory)
    async with memory() as tx:
        for minute, (old, new) in enumerate([("A", "B"), ("B", "C"), ("C", "D"), ("D", "E")]):
            await tx.synch_log.add(company.id, None, [a_rename(old, new)], NOON + timedelta(minutes=minute))
        first = await tx.synch_log.history(company.id, COUPLING, None, 1)
        rest = await tx.synch_log.history(company.id, COUPLING, first[-1]["position"], 3)
    assert [one["new"] for one in [*first, *rest]] == ["E", "D", "C", "B"]


def a_key(number: int = 1) -> tuple[ApiKey, bytes]:
    token = f"nck_{number}"
    key = ApiKey(
        UUID(int=number), "ERP", token[:8], frozenset({Scope.READ, Scope.SYNC}), ("cronus",), NOON,
        NOON + timedelta(days=1),
    )  # fmt: skip
    return key, hashlib.sha256(token.encode()).digest()


async def known(tx: Transaction, digest: bytes) -> ApiKey | None:
    """The key behind a hash, as every request finds it."""
    return (await tx.reception.of([(digest, None)]))[digest, None].key


async def test_an_api_key_is_found_by_its_hash_until_it_is_revoked(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    (key, digest), (other, other_digest) = a_key(1), a_key(2)
    async with memory() as tx:
        await tx.api_keys.add(key, digest)
        await tx.api_keys.add(other, other_digest)
        assert await known(tx, digest) == key
        assert await known(tx, b"unknown") is None
        assert await tx.api_keys.page(None, 1) == [key]
        assert await tx.api_keys.page(key.id, 5) == [other]
        await tx.api_keys.revoke(key.id, NOON)
        assert await known(tx, digest) is None
        assert await tx.api_keys.page(None, 5) == [other]
        with pytest.raises(NotFound):
            await tx.api_keys.revoke(key.id, NOON)


async def test_a_stranger_learns_nothing_of_a_company_not_even_that_its_secrets_cannot_be_read(
    engine: AsyncEngine,
) -> None:
    company = await a_company(a_memory(engine), nav={"kind": "nav_odata", "password": "secret"})
    key, digest = a_key()
    async with SqlUnitOfWork(engine, Vault([Fernet.generate_key()]))() as tx:
        await tx.api_keys.add(key, digest)
        stranger = (b"unknown", company.name)
        assert await tx.reception.of([stranger]) == {stranger: Arrival(None, None)}
        with pytest.raises(SecretsUnreadable):
            await tx.reception.of([(digest, company.name)])


async def test_the_last_use_of_a_key_is_noted_to_the_minute(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    key, digest = a_key()
    noted = []
    async with memory() as tx:
        await tx.api_keys.add(key, digest)
        for seconds in (0, 30, 60):
            await tx.api_keys.touch(key.id, NOON + timedelta(seconds=seconds))
            found = await known(tx, digest)
            assert found is not None
            noted.append(found.last_used_at)
    assert noted == [NOON, NOON, NOON + timedelta(minutes=1)]


ANSWER = StoredAnswer(201, {"location": "/somewhere"}, b'{"id": 1}')


@as_a_request
async def test_the_same_request_gets_the_first_answer_and_another_one_is_refused(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    async with memory() as tx:
        assert await tx.idempotency.claim("me", "k", b"one", NOON) is None
        with pytest.raises(Busy):
            await tx.idempotency.claim("me", "k", b"one", NOON)
        assert await tx.idempotency.claim("you", "k", b"two", NOON) is None
        await tx.idempotency.answer("me", "k", ANSWER)
        assert await tx.idempotency.claim("me", "k", b"one", NOON + timedelta(hours=23)) == ANSWER
        with pytest.raises(IdempotencyKeyReused):
            await tx.idempotency.claim("me", "k", b"two", NOON)


@as_a_request
async def test_an_answer_may_hold_a_key_so_it_is_kept_encrypted(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    async with memory() as tx:
        await tx.idempotency.claim("me", "k", b"one", NOON)
        await tx.idempotency.answer("me", "k", StoredAnswer(201, {}, b'{"key": "nck_secret"}'))
    async with engine.connect() as connection:
        (kept,) = await connection.scalars(text("SELECT body FROM idempotency_key"))
    assert b"nck_secret" not in kept


@as_a_request
async def test_keys_are_free_again_after_a_day_a_crash_or_a_release(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    async with memory() as tx:
        for key in ("answered", "crashed", "released"):
            await tx.idempotency.claim("me", key, b"one", NOON)
        await tx.idempotency.answer("me", "answered", ANSWER)
        await tx.idempotency.release("me", "answered")
        await tx.idempotency.release("me", "released")
        assert await tx.idempotency.claim("me", "released", b"two", NOON) is None
        assert await tx.idempotency.claim("me", "crashed", b"two", NOON + timedelta(minutes=10)) is None
        assert await tx.idempotency.claim("me", "answered", b"two", NOON + timedelta(days=1)) is None
        assert await tx.idempotency.forget(NOON + timedelta(hours=1), 100) == 2


async def test_of_many_requests_at_once_one_is_carried_out(engine: AsyncEngine) -> None:
    memory = a_memory(engine)

    async def claim() -> bool:
        async with memory() as tx:
            try:
                return await tx.idempotency.claim("me", "k", b"one", NOON) is None
            except Busy:
                return False

    assert (await asyncio.gather(*(claim() for _ in range(10)))).count(True) == 1


async def test_workers_are_seen_while_they_give_signs_of_life(engine: AsyncEngine) -> None:
    memory = a_memory(engine)
    one, other = uuid4(), uuid4()
    async with memory() as tx:
        await tx.workers.heartbeat(one, "one", NOON)
        await tx.workers.heartbeat(other, "other", NOON)
        await tx.workers.heartbeat(one, "one", NOON + timedelta(minutes=5))
        (seen,) = await tx.workers.seen_since(NOON + timedelta(minutes=1))
        assert (seen.id, seen.started_at, seen.seen_at) == (one, NOON, NOON + timedelta(minutes=5))
        assert await tx.workers.forget(NOON + timedelta(minutes=1)) == 1
        await tx.workers.leave(one)
        assert await tx.workers.seen_since(NOON) == []


async def test_stored_secrets_move_to_a_new_key_and_the_old_one_may_go(engine: AsyncEngine) -> None:
    old = a_memory(engine)
    nav = {"kind": "business_central", "authentication": {"client_secret": "sesame"}}
    company, plain = await a_company(old, nav=nav), await a_company(old, "fabrikam")
    async with old() as tx:
        await tx.connections.save(company.id, a_setup())
    fresh = Fernet.generate_key().decode()
    both, new = Vault([fresh, KEY]), SqlUnitOfWork(engine, Vault([fresh]))
    async with new() as tx:
        with pytest.raises(SecretsUnreadable):
            await tx.companies.get("cronus")
    async with engine.begin() as connection:
        assert await rotate(connection, both) == Rotation(2)
        assert await rotate(connection, both) == Rotation(0)
    async with new() as tx:
        assert (await tx.companies.get("cronus")).nav == nav
        assert await tx.companies.get("fabrikam") == plain
        found = await tx.connections.find(company.id)
    assert found is not None
    assert found == replace(a_setup(), revision=found.revision)
    async with old() as tx:
        with pytest.raises(SecretsUnreadable):
            await tx.connections.find(company.id)


@as_a_request
async def test_answers_that_are_kept_move_to_a_new_key_too(engine: AsyncEngine) -> None:
    fresh = Fernet.generate_key().decode()
    old, lost = a_memory(engine), SqlUnitOfWork(engine, Vault([Fernet.generate_key().decode()]))
    new = SqlUnitOfWork(engine, Vault([fresh]))
    for memory, key in ((old, "kept"), (lost, "lost")):
        async with memory() as tx:
            await tx.idempotency.claim("me", key, b"one", NOON)
            await tx.idempotency.answer("me", key, ANSWER)
    async with engine.begin() as connection:
        assert await rotate(connection, Vault([fresh, KEY])) == Rotation(1)
    async with new() as tx:
        assert await tx.idempotency.claim("me", "kept", b"one", NOON) == ANSWER
        assert await tx.idempotency.claim("me", "lost", b"one", NOON) is None  # nobody could have read it


async def test_a_secret_whose_key_is_gone_is_named_and_the_others_move(engine: AsyncEngine) -> None:
    lost = SqlUnitOfWork(engine, Vault([Fernet.generate_key().decode()]))
    for memory, name in ((lost, "cronus"), (a_memory(engine), "fabrikam")):
        company = await a_company(memory, name)
        async with memory() as tx:
            await tx.connections.save(company.id, a_setup())
    fresh = Fernet.generate_key().decode()
    async with engine.begin() as connection:
        assert await rotate(connection, Vault([fresh, KEY])) == Rotation(1, ("the CRM connection of cronus",))


def test_a_damaged_secret_is_no_secret() -> None:
    vault = Vault([KEY])
    stored = vault.encrypt({"client_secret": "sesame"})
    with pytest.raises(SecretsUnreadable):
        vault.decrypt(stored[:-4] + b"AAAA")
