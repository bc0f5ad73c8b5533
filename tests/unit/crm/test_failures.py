"""CRM's refusals by table."""

import json
from datetime import timedelta

import pytest

from app.crm.failures import error_of, retry_after
from app.crm.wire import Answer
from app.domain import errors


def answer(status: int, code: str = "", message: str = "said", **headers: str) -> Answer:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return Answer(status, headers, body)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "0x80040217", errors.CrmRecordNotFound),
        (404, "0x80060891", errors.CrmRecordNotFound),
        (404, "0x8006088a", errors.CrmRefused),
        (400, "0x80040217", errors.CrmRefused),  # a bind to a row that is missing
        (412, "0x80060882", errors.StaleRecord),
        (412, "0x80060882".upper().replace("0X", "0x"), errors.StaleRecord),
        (412, "0x80040237", errors.AlreadyExists),
        (412, "0x80060892", errors.CrmRefused),
        (412, "0x80040333", errors.CrmRefused),
        (500, "0x80040333", errors.CrmRefused),  # older builds
        (400, "0x80044352", errors.WatermarkExpired),
        (410, "", errors.WatermarkExpired),
        (401, "", errors.LoginRefused),
        (403, "0x80040220", errors.PermissionMissing),
        (403, "0x80072560", errors.PermissionMissing),
        (429, "0x80072322", errors.Throttled),
        (400, "0x80048d19", errors.CrmRefused),
        (405, "0x80040227", errors.CrmRefused),
        (500, "0x80040216", errors.CrmUnavailable),
        (503, "", errors.CrmUnavailable),
        (302, "", errors.CrmUnavailable),
        (501, "0x8006088a", errors.CrmRefused),
    ],
)
def test_a_refusal_becomes_what_the_caller_can_act_on(
    status: int, code: str, kind: type[errors.IntegrationError]
) -> None:
    error = error_of(answer(status, code), "account 1")
    assert type(error) is kind
    assert "account 1" in error.detail


def test_crms_own_words_and_code_are_kept() -> None:
    error = error_of(answer(400, "0x80044331", "The length of the 'name' attribute ..."), "account 1")
    assert "The length of the 'name' attribute" in error.detail
    assert error.extra["crm_code"] == "0x80044331"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"Message":"no"}', b'{"error":"text"}', b"[" * 200_000 + b"]" * 200_000]
)
def test_any_body_will_do(body: bytes) -> None:
    assert isinstance(error_of(Answer(503, {}, body)), errors.CrmUnavailable)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("soon", None),
        ("", None),
        ("inf", 86_400),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    wanted = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after({"retry-after": header}) == wanted


def test_a_date_counts_by_the_clock_that_wrote_it() -> None:
    sent = {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 07:28:20 GMT"}
    assert retry_after(sent) == timedelta(seconds=20)
