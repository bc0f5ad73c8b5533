"""Everything that can go wrong, one tree, named by what the caller can do.

`code` is stable and part of the REST contract, the docstring of a class is the title people read,
`detail` says which record, `fix` which call mends it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field of the input. `suggestion` holds a value that would be accepted."""

    pointer: str  # RFC 6901, or the name of a query parameter
    message: str
    suggestion: Any | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """A record that has to be coupled before another can be transferred, by its key in NAV or its id in CRM."""

    nav_table: str
    nav_key: str | None = None
    crm_id: UUID | None = None

    def shown(self) -> dict[str, str]:
        """As problem details show it."""
        half = {"crm_id": str(self.crm_id)} if self.nav_key is None else {"nav_key": self.nav_key}
        return {"nav_table": self.nav_table} | half


class IntegrationError(Exception):
    """Something went wrong in the integration."""

    code: ClassVar[str] = "integration-error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        fix: str | None = None,
        errors: Sequence[FieldProblem] = (),
        extra: Mapping[str, Any] | None = None,
        waits_for: Awaited | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fix = fix
        self.errors = tuple(errors)
        self.extra = dict(extra or {})
        self.waits_for = waits_for
        if waits_for is not None:
            self.extra["waits_for"] = waits_for.shown()

    @classmethod
    def title(cls) -> str:
        """The first line of the docstring: what people read."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")


# --- the caller asked for something that is not there -------------------------------------------


class NotFound(IntegrationError):
    """There is no such thing."""

    code = "not-found"


class CompanyNotFound(NotFound):
    """There is no such company."""

    code = "company-not-found"


class TableNotFound(NotFound):
    """There is no such table or entity."""

    code = "table-not-found"


class NavRecordNotFound(NotFound):
    """There is no such record in NAV."""

    code = "nav-record-not-found"


class CrmRecordNotFound(NotFound):
    """There is no such record in CRM."""

    code = "crm-record-not-found"


class MappingNotFound(NotFound):
    """There is no integration table mapping for this."""

    code = "mapping-not-found"


class NoCoupling(NotFound):
    """The record has no coupling."""

    code = "not-coupled"


# --- the input is wrong --------------------------------------------------------------------------


class Invalid(IntegrationError):
    """The request cannot be carried out as it is."""

    code = "invalid"


class InvalidValues(Invalid):
    """Some values do not fit the fields they are meant for."""

    code = "invalid-values"


class InvalidFilter(Invalid):
    """The filter cannot be understood."""

    code = "invalid-filter"


class InvalidMapping(Invalid):
    """The mapping names something that does not exist or cannot be converted."""

    code = "invalid-mapping"


class InvalidServerUrl(Invalid):
    """The address of CRM cannot be used."""

    code = "invalid-server-url"


class ConnectionTestFailed(Invalid):
    """CRM could not be reached with these settings."""

    code = "connection-test-failed"


class DirectionRequired(Invalid):
    """The mapping goes both ways: say which direction."""

    code = "direction-required"


class DirectionNotAllowed(Invalid):
    """The mapping does not go in that direction."""

    code = "direction-not-allowed"


class CreateNotSupported(Invalid):
    """Records of this kind are never created on that side."""

    code = "create-not-supported"


class NotEligible(Invalid):
    """The record cannot be coupled or synchronized as it is."""

    code = "not-eligible"


class ContactTypeNotPerson(NotEligible):
    """Only contacts of type Person can be coupled."""

    code = "contact-type-not-person"


class ContactWithoutCompany(NotEligible):
    """The contact belongs to no company."""

    code = "contact-without-company"


class ContactWithoutAccount(NotEligible):
    """The CRM contact belongs to no account."""

    code = "contact-without-account"


class SalespersonNotCoupled(NotEligible):
    """The salesperson must be coupled first."""

    code = "salesperson-not-coupled"


class LookupNotCoupled(NotEligible):
    """A record that this one refers to must be coupled first."""

    code = "lookup-not-coupled"


class CurrencyWithoutIso(NotEligible):
    """The currency has no ISO code, by which CRM would know it."""

    code = "currency-without-iso"


class ExchangeRateMissing(NotEligible):
    """The currency has no exchange rate."""

    code = "exchange-rate-missing"


class PriceCurrenciesMixed(NotEligible):
    """The prices of the group are not all in one currency, which a price list needs."""

    code = "price-currencies-mixed"


class BaseUnitMissing(NotEligible):
    """The record has no base unit of measure."""

    code = "base-unit-missing"


class UnitGroupInvalid(NotEligible):
    """The unit group in CRM does not hold just the one unit that NAV expects."""

    code = "unit-group-invalid"


class Filtered(NotEligible):
    """The record lies outside the filter of the mapping."""

    code = "filtered"


# --- a rule or the present state forbids it ------------------------------------------------------


class RuleBroken(IntegrationError):
    """A rule of the integration forbids this."""

    code = "rule-broken"


class NotCoupled(RuleBroken):
    """The record must be coupled first."""

    code = "not-coupled"


class AlreadyCoupled(RuleBroken):
    """The record is coupled already."""

    code = "already-coupled"


class AlreadyExists(RuleBroken):
    """There is one of that name already."""

    code = "already-exists"


class ConnectionDisabled(RuleBroken):
    """The connection to CRM is not enabled."""

    code = "connection-disabled"


class SetupExists(RuleBroken):
    """There is a synchronization setup already."""

    code = "setup-exists"


class SolutionNotInstalled(RuleBroken):
    """The integration solution is not installed in CRM."""

    code = "integration-solution-not-installed"


class SubmittedSalesOrders(RuleBroken):
    """Submitted sales orders wait for NAV."""

    code = "submitted-sales-orders"


class StaleRecord(RuleBroken):
    """The record was changed by somebody else meanwhile."""

    code = "stale-record"
    retryable = True


class CouplingSkipped(RuleBroken):
    """The coupling is skipped until it is restored."""

    code = "skipped"


class PartnerGone(RuleBroken):
    """The other half of the coupling was deleted, so the coupling was removed."""

    code = "uncoupled"


class UpdateConflict(RuleBroken):
    """Both sides changed since they last agreed."""

    code = "update-conflict"


class DeletionConflict(RuleBroken):
    """One of the two coupled records was deleted."""

    code = "deletion-conflict"


class TooManyDeletions(RuleBroken):
    """So many records were deleted that a person has to confirm it."""

    code = "too-many-deletions"


class Busy(RuleBroken):
    """Something else is working on this right now."""

    code = "busy"
    retryable = True


class UnexpectedError(IntegrationError):
    """A synch job was stopped by an error of the service itself, which may pass like any other."""

    code = "internal-error"
    retryable = True


# --- the other system ----------------------------------------------------------------------------


class SideRefused(IntegrationError):
    """The other system refused."""

    code = "refused"


class CrmRefused(SideRefused):
    """CRM refused the request."""

    code = "crm-refused"


class NavRefused(SideRefused):
    """NAV refused the request."""

    code = "nav-refused"


class PermissionMissing(CrmRefused):
    """The application user lacks a permission in CRM."""

    code = "crm-permission-missing"


class WatermarkExpired(SideRefused):
    """The side no longer knows the changes since then; everything has to be read again."""

    code = "watermark-expired"


class SideUnavailable(IntegrationError):
    """The other system cannot be reached."""

    code = "unavailable"
    retryable = True


class CrmUnavailable(SideUnavailable):
    """CRM cannot be reached."""

    code = "crm-unavailable"


class NavUnavailable(SideUnavailable):
    """NAV cannot be reached."""

    code = "nav-unavailable"


class LoginRefused(CrmUnavailable):
    """CRM did not accept the credentials of the connection."""

    code = "crm-login-refused"
    retryable = False


class Throttled(CrmUnavailable):
    """CRM asks to wait."""

    code = "crm-throttled"

    def __init__(self, detail: str, *, retry_after: timedelta, fix: str | None = None) -> None:
        super().__init__(detail, fix=fix)
        self.retry_after = retry_after


# --- who may -------------------------------------------------------------------------------------


class Unauthenticated(IntegrationError):
    """Say who you are."""

    code = "unauthenticated"


class Forbidden(IntegrationError):
    """The key does not allow this."""

    code = "forbidden"


class UserNotMapped(Forbidden):
    """Callers must be users of CRM."""

    code = "user-not-mapped"


class PreconditionFailed(IntegrationError):
    """The resource was changed since you read it."""

    code = "precondition-failed"


class IdempotencyKeyReused(IntegrationError):
    """The Idempotency-Key was used for another request."""

    code = "idempotency-key-reused"


class AnswerLost(RuleBroken):
    """The request was interrupted, and its answer is lost."""

    code = "answer-lost"


# --- this service --------------------------------------------------------------------------------


class DatabaseUnavailable(IntegrationError):
    """The database of this service cannot be reached."""

    code = "database-unavailable"
    retryable = True


class DatabaseFull(DatabaseUnavailable):
    """The disk of the database is full."""

    code = "database-full"

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL has no space left on its disk: nothing can be written, and nothing was.",
            fix="Free space on the disk of PostgreSQL, then repeat the request.",
        )


class SecretsUnreadable(IntegrationError):
    """The stored secrets were encrypted with a key that this service does not have."""

    code = "secrets-unreadable"
