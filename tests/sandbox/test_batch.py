"""`$batch` and the bulk messages (sections 14 and 15)."""

import re
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import API, Crm, code, message

pytestmark = pytest.mark.anyio
MISSING = "00000000-0000-4000-8000-00000000dead"


def part(method: str, path: str, body: str = "", headers: str = "", content_id: str = "") -> str:
    """One request of a batch, lines ending in CRLF."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {content_id}"] if content_id else []
    target = path if path.startswith(("$", "http")) else f"/api/data/v9.2/{path}"
    lines += ["", f"{method} {target} HTTP/1.1"]
    lines += ["Content-Type: application/json; type=entry"] if body else ["Accept: application/json"]
    lines += [headers] if headers else []
    return "\r\n".join([*lines, "", body, ""])


def post(name: str, content_id: str = "") -> str:
    return part("POST", "accounts", f'{{"name":"{name}"}}', content_id=content_id)


def change_set(*parts: str, name: str = "changeset_a") -> str:
    inner = "".join(f"--{name}\r\n{text}" for text in parts)
    return f'Content-Type: multipart/mixed; boundary="{name}"\r\n\r\n{inner}--{name}--\r\n'


async def send(crm: Crm, *units: str, prefer: str = "", **more: str) -> httpx.Response:
    body = "".join(f"--batch_nav1\r\n{unit}\r\n" for unit in units) + "--batch_nav1--\r\n"
    headers = {"Content-Type": 'multipart/mixed; boundary="batch_nav1"', "Prefer": prefer} | more
    return await crm.http.post("$batch", content=body.encode(), headers=headers)


def statuses(answer: httpx.Response) -> list[int]:
    return [int(found) for found in re.findall(r"^HTTP/1\.1 (\d{3})", answer.text, re.MULTILINE)]


def names(crm: Crm) -> list[str]:
    return sorted(row["name"] for row in crm.organization.rows("account").values())


async def test_requests_are_answered_in_order(crm: Crm) -> None:
    answer = await send(crm, post("One"), part("GET", "accounts?$select=name&$top=1"), post("Two"))
    assert answer.status_code == 200
    assert re.match(r"multipart/mixed; boundary=batchresponse_[0-9a-f-]{36}", answer.headers["Content-Type"])
    assert statuses(answer) == [204, 200, 204]
    assert '"name":"One"' in answer.text
    boundary = answer.headers["Content-Type"].partition("boundary=")[2]
    assert answer.text.startswith(f"--{boundary}\r\nContent-Type: application/http\r\n")
    assert answer.text.endswith(f"--{boundary}--\r\n")
    assert re.search(rf"\r\nOData-EntityId: {re.escape(API)}accounts\([0-9a-f-]+\)\r\n", answer.text)


async def test_a_failure_stops_the_rest_and_gives_the_batch_its_status(crm: Crm) -> None:
    answer = await send(crm, post("One"), part("GET", f"accounts({MISSING})"), post("Never"))
    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("multipart/mixed")
    assert statuses(answer) == [204, 404]
    assert "0x80040217" in answer.text
    assert "REQ_ID: " in answer.text
    assert names(crm) == ["One"]


async def test_the_rest_goes_on_when_asked(crm: Crm) -> None:
    answer = await send(
        crm, post("One"), part("GET", "nosuch"), post("Two"), prefer="odata.continue-on-error"
    )
    assert (answer.status_code, statuses(answer)) == (200, [204, 404, 204])
    assert names(crm) == ["One", "Two"]


async def test_a_change_set_refers_to_what_it_makes(crm: Crm) -> None:
    contact = '{"lastname":"Doyle","parentcustomerid_account@odata.bind":"$1"}'
    answer = await send(
        crm,
        change_set(
            post("Cannon", "1"),
            part("POST", "contacts", contact, content_id="2"),
            part("PATCH", "$1", '{"fax":"5"}', content_id="3"),
            part("PUT", "$1/primarycontactid/$ref", '{"@odata.id":"$2"}', content_id="4"),
        ),
    )
    assert statuses(answer) == [204] * 4
    assert re.findall(r"Content-ID: (\d)", answer.text) == ["1", "2", "3", "4"]
    assert "boundary=changesetresponse_" in answer.text
    account = next(iter(crm.organization.rows("account").values()))
    contact_row = next(iter(crm.organization.rows("contact").values()))
    assert account["fax"] == "5"
    assert account["primarycontactid"] == contact_row["contactid"]
    assert contact_row["parentcustomerid"] == account["accountid"]


async def test_a_failed_change_set_answers_with_the_failing_part_alone(crm: Crm) -> None:
    long = part("POST", "accounts", f'{{"name":"{"x" * 161}"}}', content_id="2")
    answer = await send(
        crm,
        change_set(post("One", "1"), long, post("Three", "3")),
        post("After"),
        prefer="odata.continue-on-error",
    )
    assert statuses(answer) == [400, 204]
    assert re.findall(r"Content-ID: (\d)", answer.text) == ["2"]
    assert "0x80044331" in answer.text
    assert names(crm) == ["After"]
    stopped = await send(crm, change_set(long), post("Never"))
    assert (stopped.status_code, statuses(stopped)) == (400, [400])


async def test_a_rollback_takes_back_updates_deletions_and_their_traces(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon", fax="1")
    gone = await crm.create("accounts", name="Stays")
    tag = (await crm.row("accounts", account))["@odata.etag"]
    link = (await crm.get("accounts", Prefer="odata.track-changes")).json()["@odata.deltaLink"]
    await send(
        crm,
        change_set(
            part("PATCH", f"accounts({account})", '{"fax":"2"}', content_id="1"),
            part("DELETE", f"accounts({gone})", content_id="2"),
            part("DELETE", f"accounts({MISSING})", content_id="3"),
        ),
    )
    row = await crm.row("accounts", account)
    assert (row["fax"], row["@odata.etag"]) == ("1", tag)
    assert await crm.values(link) == []
    assert len(await crm.values("accounts?$filter=fax eq '1'")) == 1


async def test_an_undeclared_reference_is_refused(crm: Crm) -> None:
    answer = await send(crm, post("One"), part("PATCH", "$1", '{"fax":"5"}'))
    assert "Content-ID Reference: '$1' does not exist in the batch context." in answer.text
    later = await send(
        crm,
        change_set(post("Two", "7")),
        change_set(part("PATCH", "$7", '{"fax":"5"}', content_id="8"), name="b"),
    )
    assert later.status_code == 400


async def test_parts_have_headers_of_their_own(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    answer = await send(
        crm,
        part("PATCH", f"accounts({account})", '{"fax":"1"}', "Prefer: return=representation"),
        part("PATCH", f"accounts({account})", '{"fax":"2"}', 'If-Match: W/"1"'),
        prefer="odata.continue-on-error",
    )
    assert statuses(answer) == [200, 412]
    assert "0x80060882" in answer.text


async def test_an_impersonated_batch_writes_in_the_name_of_the_user(crm: Crm) -> None:
    user = await crm.create("systemusers", lastname="Saddow")
    await send(crm, post("Cannon"), MSCRMCallerID=user)
    row = next(iter(crm.organization.rows("account").values()))
    assert (row["createdby"], row["createdonbehalfby"]) == (user, crm.organization.user)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--batch_nav1\nContent-Type: application/http\n\nGET accounts HTTP/1.1\n\n--batch_nav1--\n",
        b"--batch_nav1\r\nContent-Type: application/http\r\n\r\nGET accounts HTTP/1.1\r\n\r\n",
        b"--batch_nav1\r\nContent-Type: text/plain\r\n\r\nGET accounts HTTP/1.1\r\n\r\n\r\n--batch_nav1--\r\n",
        b"--batch_nav1\r\nContent-Type: application/http\r\n\r\nnonsense\r\n\r\n\r\n--batch_nav1--\r\n",
    ],
)
async def test_a_malformed_batch_is_refused_in_json(crm: Crm, body: bytes) -> None:
    headers = {"Content-Type": "multipart/mixed; boundary=batch_nav1"}
    answer = await crm.http.post("$batch", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_the_rules_of_a_batch(crm: Crm) -> None:
    too_many = await send(crm, change_set(*(post("x", str(n)) for n in range(1001))))
    assert too_many.status_code == 400
    assert "1000" in message(too_many)
    reading = await send(crm, change_set(part("GET", "accounts", content_id="1")))
    twice = await send(crm, change_set(post("x", "1"), post("y", "1")))
    unnamed = await send(crm, change_set(post("x")))
    assert {reading.status_code, twice.status_code, unnamed.status_code} == {400}
    nested = await send(crm, part("POST", "$batch", "x"))
    assert statuses(nested) == [400]
    assert names(crm) == []


# -- bulk messages


def target(**values: Any) -> dict[str, Any]:
    names = {name.replace("odata_", "@odata."): value for name, value in values.items()}
    return {"@odata.type": "Microsoft.Dynamics.CRM.account"} | names


async def bulk(crm: Crm, name: str, *targets: dict[str, Any]) -> httpx.Response:
    return await crm.post(f"accounts/Microsoft.Dynamics.CRM.{name}", {"Targets": list(targets)})


async def test_many_rows_are_created_in_order(crm: Crm) -> None:
    answer = await bulk(crm, "CreateMultiple", target(name="One"), target(name="Two", accountid=MISSING))
    assert answer.status_code == 200
    content = answer.json()
    assert content["@odata.context"] == f"{API}$metadata#Microsoft.Dynamics.CRM.CreateMultipleResponse"
    rows = crm.organization.rows("account")
    assert [rows[row_id]["name"] for row_id in content["Ids"]] == ["One", "Two"]
    assert content["Ids"][1] == MISSING


async def test_one_bad_row_spoils_all_and_is_not_named(crm: Crm) -> None:
    answer = await bulk(crm, "CreateMultiple", target(name="One"), target(name="x" * 161))
    assert (answer.status_code, code(answer)) == (400, "0x80044331")
    assert names(crm) == []
    assert (await bulk(crm, "CreateMultiple", {"name": "untyped"})).status_code == 400
    wrong = {"@odata.type": "Microsoft.Dynamics.CRM.contact", "lastname": "x"}
    assert (await bulk(crm, "CreateMultiple", wrong)).status_code == 400
    assert (await bulk(crm, "CreateMultiple")).status_code == 400


async def test_later_duplicates_of_an_update_are_ignored(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    answer = await bulk(
        crm, "UpdateMultiple", target(accountid=account, fax="1"), target(accountid=account, fax="2")
    )
    assert answer.status_code == 204
    assert (await crm.row("accounts", account))["fax"] == "1"
    missing = await bulk(crm, "UpdateMultiple", target(accountid=account, fax="3"), target(accountid=MISSING))
    assert (missing.status_code, code(missing)) == (404, "0x80040217")
    assert (await crm.row("accounts", account))["fax"] == "1"
    assert (await bulk(crm, "UpdateMultiple", target(fax="3"))).status_code == 400


async def test_upserts_take_alternate_keys_but_not_twice_and_not_in_the_body(crm: Crm) -> None:
    key = {"SchemaName": "nav_no", "KeyAttributes": ["accountnumber"]}
    await crm.post("EntityDefinitions(LogicalName='account')/Keys", key)
    one = target(odata_id="accounts(accountnumber='10000')", name="Cannon")
    assert (
        await bulk(crm, "UpsertMultiple", one, target(accountid=MISSING, name="Chosen"))
    ).status_code == 204
    assert names(crm) == ["Cannon", "Chosen"]
    assert (await bulk(crm, "UpsertMultiple", one | {"name": "Again"})).status_code == 204
    assert names(crm) == ["Again", "Chosen"]
    assert (await bulk(crm, "UpsertMultiple", one, one)).status_code == 412
    repeated = target(odata_id="accounts(accountnumber='20000')", accountnumber="20000", name="x")
    assert (await bulk(crm, "UpsertMultiple", repeated)).status_code == 400
    assert names(crm) == ["Again", "Chosen"]


async def test_standard_tables_are_not_deleted_in_bulk(crm: Crm) -> None:
    account = await crm.create("accounts", name="Cannon")
    answer = await bulk(crm, "DeleteMultiple", target(accountid=account))
    assert message(answer) == "DeleteMultiple has not yet been implemented."
    criteria = {
        "Conditions": [
            {
                "AttributeName": "accountid",
                "Operator": "In",
                "Values": [{"Value": account, "Type": "System.Guid"}],
            }
        ]
    }
    job = await crm.post("BulkDelete", {"QuerySet": [{"EntityName": "account", "Criteria": criteria}]})
    assert (job.status_code, len(job.json()["JobId"])) == (200, 36)
    assert names(crm) == []


async def test_the_messages_of_a_table_can_be_asked_for(crm: Crm) -> None:
    query = (
        "sdkmessagefilters?$select=sdkmessagefilterid&$filter=sdkmessageid/name eq @m and "
        "primaryobjecttypecode eq @t&@m='{}'&@t='account'"
    )
    assert len(await crm.values(query.format("CreateMultiple"))) == 1
    assert await crm.values(query.format("UpsertMultiple")) == []
