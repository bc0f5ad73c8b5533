"""What CRM's refusals mean for us: from (status, error.code) to a domain error.

412 has four meanings and 403 several, so the code decides before the status does (Dataverse error codes).
"""

import email.utils
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from app.crm.wire import Answer, read_json
from app.domain.errors import (
    AlreadyExists,
    CrmRecordNotFound,
    CrmRefused,
    CrmUnavailable,
    IntegrationError,
    LoginRefused,
    PermissionMissing,
    StaleRecord,
    Throttled,
    WatermarkExpired,
)

RECORD_EXISTS = "0x80040237"
OBJECT_DOES_NOT_EXIST = "0x80040217"
VERSION_MISMATCH = "0x80060882"
QUERY_ERROR = "0x80060888"
PAYLOAD_ERROR = "0x80048d19"
NOT_A_MEMBER = "0x80072560"
USER_DISABLED = frozenset({"0x80040225", "0x8004d24b"})

_PRIVILEGE = re.compile(r"\bmissing prv\w+", re.IGNORECASE)
LONGEST_WAIT = timedelta(days=1)  # whoever asks for more does not mean it
DEFAULT_WAIT = timedelta(seconds=10)  # when a 429 does not say how long
ADD_APPLICATION_USER = (
    "In the Power Platform admin center add the app registration as an application user of the environment "
    "and give it a security role."
)
GIVE_ROLE = "Give the application user a security role that holds this privilege (organization level)."
TOO_MANY_AT_ONCE = "0x80072326"  # of the three service protection limits the one on concurrent requests
READ_AGAIN = "Read the record again and decide anew."


def error_of(answer: Answer, subject: str = "the request") -> IntegrationError:
    """The domain error behind an answer that is not a success.

    `subject` says what was asked about, for people: `account 9f0f4c5e-…`.
    """
    code, message = code_and_message(answer)
    extra = {"crm_code": code, "crm_message": message, "crm_status": answer.status}
    said = f"{subject}: {message}" + (f" ({code})" if code else "")
    match code:
        case "0x80040217" | "0x80060891" if answer.status == 404:
            return CrmRecordNotFound(f"CRM does not have {said}", extra=extra)
        case "0x80060882":
            return StaleRecord(f"CRM refused {said}", fix=READ_AGAIN, extra=extra)
        case "0x80040237":
            return AlreadyExists(f"CRM refused {said}", extra=extra)
        case "0x80044352":
            return WatermarkExpired(f"CRM no longer knows the changes of {said}", extra=extra)
        case "0x80060892" | "0x80040333":
            return CrmRefused(
                f"CRM refused {said}", fix="Change or merge the record that is a duplicate.", extra=extra
            )
        case "0x80072560" if answer.status == 403:
            return PermissionMissing(f"CRM refused {said}", fix=ADD_APPLICATION_USER, extra=extra)
    return _by_status(answer, code, said, extra)


def lacks_privilege(error: IntegrationError) -> bool:
    """Whether our user may not do this to any row of the entity (`… is missing prvWriteAccount privilege …`) or may do
    nothing at all, as distinct from a single row that is not shared with it."""
    if not isinstance(error, PermissionMissing):
        return False
    code, message = str(error.extra.get("crm_code")), str(error.extra.get("crm_message"))
    return code == NOT_A_MEMBER or code in USER_DISABLED or bool(_PRIVILEGE.search(message))


def misunderstood(error: IntegrationError) -> bool:
    """Whether CRM does not know an attribute that we named, or takes other values for it than we sent."""
    return isinstance(error, CrmRefused) and error.extra.get("crm_code") in (QUERY_ERROR, PAYLOAD_ERROR)


def shut_out(answer: Answer) -> str | None:
    """Why CRM cannot be worked with, if the answer says so: our user may do nothing at all, or the address leads
    elsewhere, as to a page to log in on. A missing privilege is not meant."""
    if _is_redirection(answer.status):
        return f"CRM sends us elsewhere: HTTP {answer.status}"
    code, message = code_and_message(answer) if answer.status in (401, 403) else ("", "")
    if answer.status == 401 or code == NOT_A_MEMBER or code in USER_DISABLED:
        return f"CRM does not let our user in: {message}"
    return None


def _by_status(answer: Answer, code: str, said: str, extra: dict[str, Any]) -> IntegrationError:
    status = answer.status
    if status == 401:
        fix = ADD_APPLICATION_USER if code == NOT_A_MEMBER else "Check the credentials of the connection."
        return LoginRefused(f"CRM did not accept our token for {said}", fix=fix, extra=extra)
    if status == 403:
        return PermissionMissing(f"CRM refused {said}", fix=GIVE_ROLE, extra=extra)
    if status == 429:
        return Throttled(
            f"CRM asks to wait with {said}", retry_after=retry_after(answer.headers) or DEFAULT_WAIT
        )
    if status == 410:
        return WatermarkExpired(f"CRM no longer knows the changes of {said}", extra=extra)
    if status >= 500 and status != 501:
        return CrmUnavailable(f"CRM failed at {said}", fix="Try again later.", extra=extra)
    if _is_redirection(status):
        return CrmUnavailable(
            f"CRM sent us elsewhere for {said}",
            fix="Check server_url of the connection: it must be the address of the organization itself.",
            extra=extra,
        )
    return CrmRefused(f"CRM refused {said}", extra=extra)


def _is_redirection(status: int) -> bool:
    return 300 <= status < 400


def code_and_message(answer: Answer) -> tuple[str, str]:
    """CRM's own code (lower case, may be empty) and message; answers of its front ends have other shapes."""
    try:
        body = read_json(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return "", f"HTTP {answer.status}"
    error = body.get("error")
    if not isinstance(error, dict):
        return "", str(body.get("Message") or body.get("message") or f"HTTP {answer.status}")
    message = str(error.get("message") or f"HTTP {answer.status}")
    return str(error.get("code") or "").lower(), message


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long the other end asks us to wait, at most LONGEST_WAIT: seconds or a date (RFC 9110, 10.2.3). None for what
    is neither."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return timedelta(seconds=min(max(0.0, float(text)), LONGEST_WAIT.total_seconds()))
    except ValueError:
        pass
    until = http_date(text)
    if until is None:
        return None
    # The date of the answer comes from the same clock; ours may be another.
    now = http_date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(timedelta(0), until - now), LONGEST_WAIT)


def http_date(text: str) -> datetime | None:
    """A date of HTTP (RFC 9110, 5.6.7); None for what is none."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
