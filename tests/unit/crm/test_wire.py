"""`$batch` to bytes and back."""

import pytest

from app.crm.wire import Answer, Request, batch_answers, batch_body

ROOT = "/api/data/v9.2/"


def multipart(*parts: str, end: str = "--b--\r\n") -> Answer:
    """An answer as Dataverse gives it."""
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    body = "".join(f"--b\r\n{head}{part}\r\n" for part in parts) + end
    return Answer(200, {"content-type": "multipart/mixed; boundary=b"}, body.encode())


def test_a_batch_is_written_with_crlf_and_whole_paths() -> None:
    requests = [
        Request("PATCH", "accounts(1)", {"If-Match": "*"}, b'{"name":"x"}'),
        Request("GET", "accounts?$top=1"),
    ]
    assert batch_body(requests, "b", ROOT).decode() == (
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        "PATCH /api/data/v9.2/accounts(1) HTTP/1.1\r\n"
        "Content-Type: application/json\r\nIf-Match: *\r\n\r\n"
        '{"name":"x"}\r\n'
        "--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        "GET /api/data/v9.2/accounts?$top=1 HTTP/1.1\r\nAccept: application/json\r\n\r\n"
        "\r\n--b--\r\n"
    )


def test_answers_come_in_order_with_status_headers_and_body() -> None:
    first, second = batch_answers(
        multipart(
            'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: W/"1"\r\n\r\n{"name":"x","n":1.50}\r\n',
            "HTTP/1.1 204 No Content\r\nOData-Version: 4.0\r\nOData-EntityId: https://x.example/a(1)\r\n\r\n",
        )
    )
    assert (first.status, first.headers["etag"], str(first.json()["n"])) == (200, 'W/"1"', "1.50")
    assert (second.status, second.body) == (204, b"")
    assert second.headers["odata-entityid"] == "https://x.example/a(1)"


@pytest.mark.parametrize(
    "answer",
    [
        multipart("HTTP/1.1 204 No Content\r\n\r\n", end=""),
        Answer(200, {"content-type": "application/json"}, b"{}"),
        Answer(200, {}, b""),
        multipart("nonsense\r\n\r\n"),
        multipart('HTTP/1.1 200 OK\r\n\r\n{"name":"x"', "HTTP/1.1 204 No Content\r\n\r\n"),
        multipart("HTTP/1.1 200 OK\r\n\r\n[]"),
        multipart('HTTP/1.1 200 OK\r\n\r\n{"a":' + "[" * 200_000 + "]" * 200_000 + "}"),
        multipart("HTTP/1.1 200 OK\r\n\r\n{},{}"),
        multipart('HTTP/1.1 200 OK\r\n\r\n{"a":1', 'HTTP/1.1 200 OK\r\n\r\n"b":2}'),
    ],
)
def test_an_answer_that_is_not_whole_is_no_answer(answer: Answer) -> None:
    with pytest.raises(ValueError):
        batch_answers(answer)


def test_a_part_that_was_refused_need_be_no_json() -> None:
    first, second, third = batch_answers(
        multipart(
            'HTTP/1.1 200 OK\r\n\r\n{"name":"x"}',
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n<html>Down.</html>",
            'HTTP/1.1 200 OK\r\n\r\n{"name":"y"}',
        )
    )
    assert [each.json()["name"] for each in (first, third)] == ["x", "y"]
    assert (second.ok, second.body, second.data) == (False, b"<html>Down.</html>", None)
    assert dict(second.headers) == {"retry-after": "5"}


def test_a_thousand_parts_come_apart_again() -> None:
    requests = [Request("PATCH", f"accounts({n})", {"If-Match": "*"}, b'{"name":"x"}') for n in range(1000)]
    part = 'HTTP/1.1 200 OK\r\nOData-Version: 4.0\r\nETag: W/"1"\r\n\r\n{"name":"x"}\r\n'
    answer = multipart(*[part] * 1000)
    assert batch_body(requests, "b", ROOT).count(b"PATCH ") == 1000
    assert len(batch_answers(answer)) == 1000
