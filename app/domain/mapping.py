"""Integration table mappings and integration field mappings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from app.domain.records import Side


class Direction(StrEnum):
    """Which way values go. A run has one of the two one-way directions."""

    BIDIRECTIONAL = "bidirectional"
    TO_CRM = "to_crm"
    FROM_CRM = "from_crm"

    def allows(self, run: "Direction") -> bool:
        """Whether a mapping or field of this direction takes part in a run of direction `run`."""
        return self in (Direction.BIDIRECTIONAL, run)

    @property
    def runs(self) -> tuple["Direction", ...]:
        """The one-way runs it stands for, in NAV's order: to CRM first."""
        if self is Direction.BIDIRECTIONAL:
            return (Direction.TO_CRM, Direction.FROM_CRM)
        return (self,)

    @property
    def opposite(self) -> "Direction":
        """The other one-way run."""
        return Direction.FROM_CRM if self is Direction.TO_CRM else Direction.TO_CRM

    @property
    def source(self) -> Side:
        """The side a one-way run reads from."""
        return Side.NAV if self is Direction.TO_CRM else Side.CRM

    @property
    def destination(self) -> Side:
        """The side a one-way run writes to."""
        return Side.CRM if self is Direction.TO_CRM else Side.NAV


class UpdateConflictResolution(StrEnum):
    """What happens when both sides changed since they last agreed (nav-behaviour 6.4)."""

    NONE = "none"  # NAV's record rule: a record changed on both sides fails
    SEND_TO_CRM = "send_to_crm"  # NAV wins the colliding fields
    GET_FROM_CRM = "get_from_crm"  # CRM wins the colliding fields
    MERGE = "merge"  # different fields flow both ways; the same field is a conflict


class DeletionConflictResolution(StrEnum):
    """What happens when one of two coupled records was deleted (nav-behaviour 6.3)."""

    NONE = "none"
    RESTORE = "restore"
    UNCOUPLE = "uncouple"
    PROPAGATE = "propagate"


class FieldStatus(StrEnum):
    """A disabled row exists but takes no part in transfers."""

    ENABLED = "enabled"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """One NAV field and the CRM attribute it agrees with.

    `nav_field` is empty in a row that writes a constant to CRM, `crm_attribute` in one that writes
    a constant to NAV. `rule` names a rule of `domain.coded.RULES` that NAV keeps in code instead
    of in a row (owner, parent account, blocked); such rows are implied and never stored.
    """

    nav_field: str | None
    crm_attribute: str | None
    direction: Direction
    constant_value: str | None = None
    transformation: str | None = None
    clear_value_on_failed_synch: bool = False
    not_null: bool = False
    validate: bool = True
    status: FieldStatus = FieldStatus.ENABLED
    rule: str | None = None
    id: UUID | None = None

    def name_on(self, side: Side) -> str | None:
        """The name of the field on that side."""
        return self.nav_field if side is Side.NAV else self.crm_attribute

    def takes_part(self, run: Direction) -> bool:
        """Whether the row is used in a one-way run."""
        return self.status is FieldStatus.ENABLED and self.direction.allows(run)


@dataclass(frozen=True)
class TableMapping:
    """Which NAV table goes with which CRM entity, and how their records are kept in step.

    `option_attribute` is set for option mappings: NAV records that stand for the options of one CRM
    attribute (payment terms, shipment methods, shipping agents) instead of for CRM rows.
    """

    name: str
    nav_table: str
    crm_entity: str
    direction: Direction
    nav_filter: str | None = None
    crm_filter: str | None = None
    synch_only_coupled_records: bool = True
    update_conflict_resolution: UpdateConflictResolution = UpdateConflictResolution.MERGE
    deletion_conflict_resolution: DeletionConflictResolution = DeletionConflictResolution.NONE
    depends_on: tuple[str, ...] = ()
    nav_template: str | None = None
    crm_template: str | None = None
    is_default: bool = False
    option_attribute: str | None = None
    position: int = 0  # among the default mappings: the order in which they are installed
    fields: tuple[FieldMapping, ...] = ()

    def runs(self, asked: Direction | None = None) -> tuple[Direction, ...]:
        """The one-way runs of the mapping, in their order; of the direction that was asked for those that it has."""
        return tuple(run for run in (asked or self.direction).runs if self.direction.allows(run))

    def rows(self, run: Direction) -> tuple[FieldMapping, ...]:
        """The field rows of a one-way run."""
        return self._rows[run]

    def names_on(self, side: Side) -> frozenset[str]:
        """Every field that the enabled rows touch on that side."""
        return self._names[side]

    # Worked out once: every record of a run asks for them.

    @cached_property
    def _rows(self) -> Mapping[Direction, tuple[FieldMapping, ...]]:
        return {run: tuple(row for row in self.fields if row.takes_part(run)) for run in Direction}

    @cached_property
    def _names(self) -> Mapping[Side, frozenset[str]]:
        enabled = [row for row in self.fields if row.status is FieldStatus.ENABLED]
        return {
            side: frozenset(name for row in enabled if (name := row.name_on(side)) is not None)
            for side in Side
        }

    def table_on(self, side: Side) -> str:
        """The table or entity of that side."""
        return self.nav_table if side is Side.NAV else self.crm_entity

    def filter_on(self, side: Side) -> str | None:
        """The mapping's filter for that side, an OData `$filter` expression."""
        return self.nav_filter if side is Side.NAV else self.crm_filter

    def with_fields(self, fields: Iterable[FieldMapping]) -> "TableMapping":
        """The same mapping with other rows."""
        return replace(self, fields=tuple(fields))
