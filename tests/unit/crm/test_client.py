"""One request in, one answer or one domain error out."""

from collections.abc import Callable

import httpx
import pytest

from app.crm.auth import EntraAuth
from app.crm.client import DataverseClient, Patience
from app.crm.wire import Request
from app.domain.company import Credentials
from app.domain.errors import CrmRefused, CrmUnavailable, LoginRefused, Throttled

pytestmark = pytest.mark.anyio

CRM = "https://contoso.crm4.dynamics.com"
QUICK = Patience(tries=3, first_wait=0.001, longest=0.5)
ODATA = {"@odata.context": f"{CRM}/api/data/v9.2/$metadata#accounts"}
Answers = Callable[[httpx.Request], httpx.Response]


def client(answers: Answers) -> DataverseClient:
    """A client of a CRM that answers as the function says."""
    return DataverseClient(CRM, httpx.Auth(), transport=httpx.MockTransport(answers), patience=QUICK)


def parts(request: httpx.Request, *answers: str) -> httpx.Response:
    """The answer to a $batch."""
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    body = "".join(f"--b\r\n{head}HTTP/1.1 {each}\r\n\r\n" for each in answers) + "--b--\r\n"
    return httpx.Response(200, headers={"Content-Type": "multipart/mixed; boundary=b"}, content=body.encode())


async def test_a_request_says_what_dataverse_wants_to_hear() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ODATA | {"value": []})

    await client(answer).send(Request("GET", "accounts?$select=name&$filter=name%20eq%20'a%2Bb'"))
    [request] = seen
    assert str(request.url) == f"{CRM}/api/data/v9.2/accounts?$select=name&$filter=name%20eq%20'a%2Bb'"
    for name in ("OData-Version", "OData-MaxVersion"):
        assert request.headers[name] == "4.0"
    assert request.headers["If-None-Match"] == "null"
    assert "gzip" in request.headers["Accept-Encoding"]
    assert request.headers["User-Agent"].startswith("navcrm")


async def test_a_condition_of_ours_takes_the_place_of_the_default() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers.get_list("If-None-Match") == ["*"]
        return httpx.Response(204)

    await client(answer).send(Request("PATCH", "accounts(1)", {"If-None-Match": "*"}, b"{}"))


async def test_an_on_premises_address_keeps_its_path() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return httpx.Response(200, json=ODATA)

    crm = DataverseClient(
        "https://crm.example/contoso/",
        httpx.Auth(),
        api_version="v9.1",
        transport=httpx.MockTransport(answer),
    )
    await crm.send(Request("GET", "WhoAmI"))
    assert seen == ["/contoso/api/data/v9.1/WhoAmI"]


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api/data/v9.2/accounts",
        "http://contoso.crm4.dynamics.com/api/data/v9.2/accounts",
        "https://contoso.crm4.dynamics.com:444/api/data/v9.2/accounts",
        "https://contoso.crm4.dynamics.com/other/accounts",
        "https://contoso.crm4.dynamics.com@evil.example/api/data/v9.2/accounts",
    ],
)
async def test_a_link_to_another_place_is_not_followed(link: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked {request.url}")

    with pytest.raises(CrmRefused, match="another place"):
        await client(answer).send(Request("GET", link))


async def test_a_redirect_is_not_followed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "contoso.crm4.dynamics.com"
        return httpx.Response(302, headers={"Location": "https://evil.example/"})

    crm = client(answer)
    with pytest.raises(CrmUnavailable, match="elsewhere"):
        await crm.send(Request("GET", "accounts"))
    assert crm.contact is not None  # what the connection shows, and the alarm goes by
    assert crm.contact.error == "CRM sends us elsewhere: HTTP 302"


async def test_a_429_is_waited_for() -> None:
    answers = iter([httpx.Response(429, headers={"Retry-After": "0.05"}), httpx.Response(200, json=ODATA)])
    crm = client(lambda request: next(answers))
    assert (await crm.send(Request("GET", "accounts"))).status == 200
    assert next(answers, None) is None


async def test_a_429_that_stays_is_throttled() -> None:
    crm = client(lambda request: httpx.Response(429, headers={"Retry-After": "0.2"}))
    with pytest.raises(Throttled) as throttled:
        await crm.send(Request("GET", "accounts"))
    assert throttled.value.retry_after.total_seconds() == 0.2


@pytest.mark.parametrize(
    "body", ["<html>", '{"@odata.context":' + "[" * 200_000 + "]" * 200_000 + "}"], ids=["html", "deep"]
)
async def test_what_is_no_json_is_not_crm(body: str) -> None:
    with pytest.raises(CrmUnavailable, match="cannot be read"):
        await client(lambda request: httpx.Response(200, text=body)).send(Request("GET", "accounts"))


async def test_a_401_after_the_renewal_is_a_refused_login() -> None:
    with pytest.raises(LoginRefused):
        await client(lambda request: httpx.Response(401)).send(Request("GET", "accounts"))


async def test_only_the_parts_that_could_not_be_done_are_sent_again() -> None:
    bodies: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content.count(b"PATCH "))
        if len(bodies) == 1:
            return parts(
                request,
                "204 No Content",
                "429 Too Many Requests\r\nRetry-After: 0.01",
                '412 Precondition Failed\r\n\r\n{"error":{"code":"0x80060882","message":"x"}}',
                "503 Service Unavailable",
            )
        return parts(request, "204 No Content", "204 No Content")

    requests = [Request("PATCH", f"accounts({n})", {}, b"{}") for n in range(4)]
    answers = await client(answer).batch(requests)
    assert [each.status for each in answers] == [204, 204, 412, 204]
    assert [each.repeated for each in answers] == [False, True, False, True]
    assert bodies == [4, 2]


async def test_a_part_that_is_never_done_keeps_its_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return parts(request, *["503 Service Unavailable"] * request.content.count(b"PATCH "))

    answers = await client(answer).batch([Request("PATCH", "accounts(1)", {}, b"{}")] * 2)
    assert [each.status for each in answers] == [503, 503]


async def test_a_malformed_batch_is_refused_as_a_whole() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": {"code": "0x80048d19", "message": "too many"}})

    with pytest.raises(CrmRefused, match="too many"):
        await client(answer).batch([Request("GET", "accounts")])


async def test_a_closed_client_says_so() -> None:
    crm = client(lambda request: httpx.Response(200, json=ODATA))
    await crm.aclose()
    with pytest.raises(CrmUnavailable, match="changed or closed"):
        await crm.send(Request("GET", "accounts"))


async def test_the_login_service_has_another_try_too() -> None:
    answers = iter([httpx.Response(503), httpx.Response(200, json={"access_token": "x"})])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers) if request.url.path.endswith("/token") else httpx.Response(200, json=ODATA)

    auth = EntraAuth(Credentials("client_secret", "tenant", "client", client_secret="s"), CRM)
    crm = DataverseClient(CRM, auth, transport=httpx.MockTransport(answer), patience=QUICK)
    assert (await crm.send(Request("GET", "accounts"))).status == 200


@pytest.mark.parametrize("body", ["", "{}", '{"status": "ok"}', "null"])
async def test_what_a_gateway_answers_in_place_of_crm_is_asked_again(body: str) -> None:
    good = httpx.Response(200, json=ODATA | {"value": []})
    answers = iter([httpx.Response(200, text=body), good])
    answer = await client(lambda request: next(answers)).send(Request("GET", "accounts"))
    assert answer.json()["value"] == []
