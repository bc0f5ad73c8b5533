"""What we remember: companies, connections, mappings, couplings, and who waits for whom."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.domain.company import Company, ConnectionSetup
from app.domain.coupling import Coupling
from app.domain.errors import Awaited
from app.domain.mapping import TableMapping
from app.domain.records import Side


class Companies(Protocol):
    async def get(self, name: str, *, lock: bool = False) -> Company:
        """With `lock` nobody else changes it before this transaction ends. Raises CompanyNotFound."""
        ...

    async def by_id(self, company_id: int) -> Company: ...
    async def page(self, limit: int, after: str | None, names: Collection[str] | None) -> list[Company]: ...
    async def add(self, company: Company) -> Company:
        """Raises AlreadyExists."""
        ...

    async def save(self, company: Company) -> Company:
        """Guarded by revision: raises PreconditionFailed."""
        ...

    async def delete(self, company_id: int) -> None: ...


class Connections(Protocol):
    async def find(self, company_id: int, *, lock: bool = False) -> ConnectionSetup | None:
        """With `lock` nobody else changes it before this transaction ends."""
        ...

    async def save(self, company_id: int, connection: ConnectionSetup) -> ConnectionSetup:
        """Inserts or updates, guarded by revision: raises PreconditionFailed."""
        ...

    async def contacted(self, company_id: int, error: str | None, at: datetime) -> None:
        """Records what the latest contact with CRM showed, if the connection is enabled and nothing newer is
        known; not a change of the setup, so its revision stays."""
        ...

    async def posts_watermark(self, company_id: int) -> str | None:
        """Up to which version of NAV posted sales orders were told to CRM; None: nobody looked yet."""
        ...

    async def set_posts_watermark(self, company_id: int, watermark: str) -> None:
        """Call it in the transaction that records what came before it."""
        ...

    async def delete(self, company_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class StoredMapping:
    """A mapping with what our memory adds to it.

    `revision` counts its changes. `edition` is another one after each that concerns records which did not change: what
    is known of them from before does not say how they are to be seen now.
    """

    mapping: TableMapping
    nav_watermark: str | None = None
    crm_watermark: str | None = None
    nav_synched_until: datetime | None = None
    crm_synched_until: datetime | None = None
    revision: int = 0
    edition: int = 0

    def watermark(self, side: Side) -> str | None:
        """Up to where the changes of that side are recorded; None before its first run."""
        return self.nav_watermark if side is Side.NAV else self.crm_watermark


class Mappings(Protocol):
    async def get(self, company_id: int, name: str, *, lock: bool = False) -> StoredMapping:
        """With `lock` as in `all`. Raises MappingNotFound."""
        ...

    async def all(self, company_id: int, *, lock: bool = False) -> list[StoredMapping]:
        """In the order of their position, then name; with `lock` nobody else who locks changes any of them, or which
        there are, before this transaction ends."""
        ...

    async def add(self, company_id: int, mapping: TableMapping) -> StoredMapping:
        """Raises AlreadyExists."""
        ...

    async def save(
        self, company_id: int, mapping: TableMapping, revision: int | None = None
    ) -> StoredMapping:
        """Replaces the mapping and its field rows (rows keep their ids). Raises PreconditionFailed."""
        ...

    async def delete(self, company_id: int, names: Collection[str]) -> None:
        """Deletes these mappings with their field rows."""
        ...

    async def set_watermark(
        self,
        company_id: int,
        mapping: str,
        side: Side,
        watermark: str | None,
        until: datetime | None,
        *,
        edition: int | None = None,
    ) -> None:
        """Moves one side's watermark; with an edition only where the mapping still has it. Raises MappingNotFound.
        Call it in the transaction that records what came before it."""
        ...

    async def read_again(self, company_id: int, mapping: str, sides: Collection[Side] = tuple(Side)) -> None:
        """Has the mapping's records on these sides read again from the first, and all of them looked at, though they
        did not change."""
        ...


class OptionMappings(Protocol):
    async def replace(
        self, company_id: int, nav_table: str, crm_attribute: str, values: Mapping[str, int]
    ) -> None:
        """Which NAV key stands for which option value."""
        ...

    async def rename(self, company_id: int, nav_table: str, nav_keys: Mapping[str, str]) -> None:
        """The NAV records of these keys have others now, and stand for the options they stood for."""
        ...

    async def all(self, company_id: int) -> dict[tuple[str, str], dict[str, int]]:
        """By NAV table and CRM attribute: key -> option value."""
        ...


class Couplings(Protocol):
    async def get(self, company_id: int, coupling_id: UUID) -> Coupling:
        """Raises NoCoupling."""
        ...

    async def of_nav(
        self, company_id: int, nav_table: str, nav_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]: ...
    async def of_crm(
        self, company_id: int, nav_table: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, Coupling]:
        """The couplings of these CRM rows with records of that NAV table."""
        ...

    async def of_entity(
        self, company_id: int, crm_entity: str, crm_ids: Collection[UUID]
    ) -> dict[UUID, list[Coupling]]:
        """The couplings of these CRM rows with whatever NAV table."""
        ...

    async def page(
        self,
        company_id: int,
        *,
        mapping: str | None = None,
        skipped: bool | None = None,
        last_synch_result: str | None = None,
        after: UUID | None = None,
        limit: int = 100,
    ) -> list[Coupling]:
        """In the order of their ids."""
        ...

    async def ids(
        self,
        company_id: int,
        mapping: str,
        nav_table: str,
        crm_entity: str,
        side: Side,
        *,
        after: UUID | None = None,
        limit: int = 1000,
    ) -> list[UUID]:
        """The ids that the coupled records of a mapping have on that side, in their order, those of mappings that are
        gone too."""
        ...

    async def count(
        self, company_id: int, mapping: str | None = None, skipped: bool | None = None
    ) -> int: ...

    async def reserve(self, company_id: int, couplings: Sequence[Coupling]) -> list[Coupling]:
        """Inserts what it can and answers, in order, the coupling that holds now: ours, or the one that was
        there first for that NAV record or, failing that, for that CRM row."""
        ...

    async def save(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        """Writes back couplings read before; those whose revision moved meanwhile are left alone, and so is
        which records they couple. Returns the ids that were saved."""
        ...

    async def rename(self, company_id: int, nav_table: str, nav_keys: Mapping[UUID, str]) -> None:
        """The NAV records with these integration ids have other keys now: their couplings show them."""
        ...

    async def intend(self, company_id: int, couplings: Sequence[Coupling]) -> set[UUID]:
        """Writes the intents of couplings read before, and nothing else of them: their revision stays. Those whose
        revision moved meanwhile are left alone. Returns the ids that were written."""
        ...

    async def replacing(self, company_id: int, mapping: str) -> list[Coupling]:
        """The couplings of a mapping whose replacement was begun and not remembered."""
        ...

    async def delete(self, company_id: int, ids: Collection[UUID]) -> int: ...

    async def take_stock(self) -> None:
        """Lets the database learn how many there are of each kind, after many were added at once."""
        ...


@dataclass(frozen=True, slots=True)
class Wait:
    """A record that waits, and what for. The coupling in `despite` is there and did not help: its NAV record was
    deleted, or renamed since; another one has to come."""

    record_id: UUID
    awaited: Awaited
    despite: UUID | None = None


class WaitingRecords(Protocol):
    """Records of a mapping that wait, by the side they come from."""

    async def note(self, company_id: int, mapping: str, side: Side, waits: Sequence[Wait]) -> None:
        """Notes what records wait for now, in one statement; a record waits for one thing at a time."""
        ...

    async def forget(self, company_id: int, mapping: str, side: Side, ids: Collection[UUID]) -> None:
        """These records wait no longer."""
        ...

    async def released(
        self,
        company_id: int,
        mapping: str,
        side: Side,
        *,
        uncoupled: bool,
        after: UUID | None = None,
        limit: int = 1000,
    ) -> dict[UUID, UUID]:
        """The records whose wait is over, each with the coupling it had waited for, in the order of their ids.
        Without `uncoupled` only those that have a coupling themselves."""
        ...
