"""Microsoft's own client, which nobody here wrote, against the sandbox over TLS."""

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.upsert import UpsertItem
from starlette.applications import Starlette

from app.sandbox import Fault, Organization, create_sandbox
from app.sandbox.server import self_signed
from tests.servers import run_in_thread


class ClientSecret:
    """A credential of azure-core that asks the sandbox's token endpoint."""

    def __init__(self, url: str, organization: Organization) -> None:
        self.url = url
        self.settings = organization.settings

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.settings.client_id,
            "client_secret": self.settings.client_secret,
            "scope": scopes[0],
        }
        url = f"{self.url}/{self.settings.tenant_id}/oauth2/v2.0/token"
        answer = requests.post(url, data=form, timeout=60)
        answer.raise_for_status()
        content = answer.json()
        return AccessToken(content["access_token"], int(time.time()) + content["expires_in"])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def sandbox() -> Starlette:
    return create_sandbox()


@pytest.fixture
def client(
    sandbox: Starlette, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[DataverseClient]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    monkeypatch.setenv("NO_PROXY", "localhost")
    with (
        run_in_thread(sandbox, tls=certificate) as url,
        DataverseClient(url, ClientSecret(url, sandbox.state.organization)) as found,
    ):
        yield found


def retrieved(client: DataverseClient, account: str, *columns: str) -> dict[str, Any]:
    record = client.records.retrieve("account", account, select=list(columns))
    assert record is not None
    return dict(record)


def test_it_creates_reads_changes_and_deletes_a_record(client: DataverseClient) -> None:
    account = client.records.create("account", {"name": "Cannon Group PLC", "creditlimit": 25000})
    read = retrieved(client, account, "name", "creditlimit")
    assert (read["name"], read["creditlimit"]) == ("Cannon Group PLC", 25000)

    client.records.update("account", account, {"telephone1": "0161 555 0100"})
    assert retrieved(client, account, "telephone1")["telephone1"] == "0161 555 0100"

    client.records.delete("account", account)
    assert client.records.retrieve("account", account) is None


def test_it_translates_an_option_label_by_the_metadata(client: DataverseClient) -> None:
    account = client.records.create("account", {"name": "Adatum", "customertypecode": "Customer"})
    assert retrieved(client, account, "customertypecode")["customertypecode"] == 3


def test_it_creates_and_updates_many_in_one_request_each(client: DataverseClient, sandbox: Starlette) -> None:
    ids = client.records.create("account", [{"name": f"Customer {n}"} for n in range(20)])
    client.records.update("account", ids, {"address1_city": "London"})
    organization: Organization = sandbox.state.organization
    assert len(organization.requests("POST", "CreateMultiple")) == 1
    assert len(organization.requests("POST", "UpdateMultiple")) == 1
    assert {row["address1_city"] for row in organization.rows("account").values()} == {"London"}


def test_it_pages_through_a_filtered_and_sorted_list(client: DataverseClient) -> None:
    client.records.create("account", [{"name": f"Customer {n:02}"} for n in range(11)])
    pages = client.records.list_pages(
        "account",
        select=["name"],
        filter="contains(name,'customer') and statecode eq 0",
        orderby=["name desc"],
        page_size=4,
    )
    names = [[record["name"] for record in page] for page in pages]
    assert [len(page) for page in names] == [4, 4, 3]
    assert list(chain.from_iterable(names)) == [f"Customer {n:02}" for n in reversed(range(11))]


def test_it_upserts_by_an_alternate_key_that_it_made(client: DataverseClient, sandbox: Starlette) -> None:
    key = client.tables.create_alternate_key("account", "nav_customer_no", ["accountnumber"])
    assert [found.key_attributes for found in client.tables.get_alternate_keys("account")] == [
        ["accountnumber"]
    ]

    one = UpsertItem(alternate_key={"accountnumber": "10000"}, record={"name": "Cannon Group PLC"})
    other = UpsertItem(alternate_key={"accountnumber": "20000"}, record={"name": "Selangorian Ltd."})
    client.records.upsert("account", [one])
    client.records.upsert("account", [one, other])

    rows = sandbox.state.organization.rows("account").values()
    assert {row["accountnumber"]: row["name"] for row in rows} == {
        "10000": "Cannon Group PLC",
        "20000": "Selangorian Ltd.",
    }
    client.tables.delete_alternate_key("account", key.metadata_id)
    assert client.tables.get_alternate_keys("account") == []


def test_it_learns_about_tables_columns_and_relationships(client: DataverseClient) -> None:
    table = client.tables.get("account")
    assert table is not None
    assert (table["entity_set_name"], table["table_logical_name"]) == ("accounts", "account")
    assert client.tables.get("no_such_table") is None

    assert "account" in {found["LogicalName"] for found in client.tables.list()}
    columns = client.tables.list_columns("account", filter="LogicalName eq 'name'")
    assert [column["AttributeType"] for column in columns] == ["String"]
    typed = client.tables.get_column("account", "name", typed=True)
    assert typed is not None
    assert typed["MaxLength"] == 160
    found = client.tables.list_table_relationships("contact")
    names = {relationship.get("ReferencingEntityNavigationPropertyName") for relationship in found}
    assert {"parentcustomerid_account", "transactioncurrencyid"} <= names


def test_it_sends_a_batch_with_a_change_set(client: DataverseClient, sandbox: Starlette) -> None:
    batch = client.batch.new()
    with batch.changeset() as changes:
        account = changes.records.create("account", {"name": "Cannon Group PLC"})
        changes.records.create(
            "contact", {"lastname": "Doyle", "parentcustomerid_account@odata.bind": account}
        )
    batch.records.create("account", {"name": "Selangorian Ltd."})
    result = batch.execute()

    assert not result.has_errors
    assert [answer.status_code for answer in result.responses] == [204, 204, 204]
    organization: Organization = sandbox.state.organization
    contact = next(iter(organization.rows("contact").values()))
    assert organization.rows("account")[contact["parentcustomerid"]]["name"] == "Cannon Group PLC"


def test_a_failed_change_set_leaves_nothing_and_the_rest_goes_on_when_asked(
    client: DataverseClient, sandbox: Starlette
) -> None:
    batch = client.batch.new()
    with batch.changeset() as changes:
        changes.records.create("account", {"name": "Rolled back"})
        changes.records.create("account", {"name": "x" * 161})
    batch.records.create("account", {"name": "Kept"})
    result = batch.execute(continue_on_error=True)

    assert [answer.status_code for answer in result.responses] == [400, 204]
    rows = sandbox.state.organization.rows("account").values()
    assert [row["name"] for row in rows] == ["Kept"]


def test_it_queries_with_fetchxml(client: DataverseClient) -> None:
    client.records.create("account", [{"name": f"Customer {n}"} for n in range(5)])
    xml = (
        "<fetch count='2'><entity name='account'><attribute name='name'/><order attribute='name'/>"
        "<filter><condition attribute='name' operator='like' value='customer%'/></filter></entity></fetch>"
    )
    names = [record["name"] for page in client.query.fetchxml(xml).execute_pages() for record in page]
    assert names == [f"Customer {n}" for n in range(5)]


def test_it_names_the_error_code_of_a_refusal(client: DataverseClient, sandbox: Starlette) -> None:
    with pytest.raises(HttpError) as refused:
        client.records.create("account", {"name": "x" * 161})
    assert refused.value.status_code == 400
    assert refused.value.details["service_error_code"] == "0x80044331"

    sandbox.state.organization.faults.append(Fault("GET .*", kind="429", retry_after=7))
    with pytest.raises(HttpError) as throttled:
        client.records.list("account", select=["name"])
    assert throttled.value.is_transient
    assert throttled.value.details["retry_after"] == 7
