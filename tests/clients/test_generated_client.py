"""Who generates a client from our OpenAPI document gets one that works, with types, problems included."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest

from app.demo.dataverse import Crm, Login, row_id
from app.main import create_app
from app.sandbox import DEFAULT_CLIENT, DEFAULT_SECRET, DEFAULT_TENANT, create_sandbox
from app.settings import Settings
from tests.servers import run_in_thread

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "openapi" / "openapi.json"
PACKAGE = "navcrm_client"
METHODS = {"get", "put", "post", "patch", "delete"}
ADMIN_KEY = "nck_a-key-for-who-generates-a-client-0123456789"
USER = row_id("systemusers", "PS")
PETER = {"systemuserid": USER, "firstname": "Peter", "lastname": "Saddow", "islicensed": True}
FERNET_KEY = "kAevlggpokAzIe0MrUgwUt3voSDTCjIYCMfcvWFkDso="

pytestmark = pytest.mark.usefixtures("anyio_backend")  # the database comes from an asynchronous fixture


@dataclass(frozen=True, slots=True)
class Generated:
    """A client as the generator wrote it."""

    printed: str
    models: ModuleType
    client: ModuleType
    operations: dict[str, ModuleType]

    def model(self, name: str, values: dict[str, Any]) -> Any:
        """A model of the client, read from JSON as the client itself reads answers."""
        return getattr(self.models, name).from_dict(values)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    """The client, generated and imported; forgotten again at the end."""
    folder = tmp_path_factory.mktemp("client")
    beside = str(Path(sys.executable).parent)  # the generator formats what it wrote with the ruff it finds
    done = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT), "--meta", "none",
         "--output-path", str(folder / PACKAGE)],
        env={**os.environ, "PATH": os.pathsep.join((beside, os.environ.get("PATH", "")))},
        cwd=folder, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        yield _imported(done.stdout + done.stderr)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def _imported(printed: str) -> Generated:
    api = importlib.import_module(f"{PACKAGE}.api")
    found = pkgutil.walk_packages(api.__path__, f"{api.__name__}.")
    operations = {
        each.name.rpartition(".")[2]: importlib.import_module(each.name) for each in found if not each.ispkg
    }
    models, client = (importlib.import_module(f"{PACKAGE}.{name}") for name in ("models", "client"))
    return Generated(printed, models, client, operations)


@pytest.fixture
def crm_url() -> Iterator[str]:
    """A CRM over HTTP with one person in it, who is no application."""
    with run_in_thread(create_sandbox()) as url:
        with closing(_crm(url)) as crm:
            crm.create("systemusers", [PETER])
        yield url


def _crm(url: str) -> Crm:
    return Crm(Login(url, DEFAULT_TENANT, DEFAULT_CLIENT, DEFAULT_SECRET))


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls operations of the generated client on a running service."""

    generated: Generated
    client: Any

    def call(
        self, operation: str, *path: str, expect: str, body: tuple[str, dict[str, Any]] | None = None
    ) -> Any:
        """The parsed answer, which has to be of the type `expect`; a body is the name of its model and its values."""
        given = {} if body is None else {"body": self.generated.model(*body)}
        answer = self.generated.operations[operation].sync(*path, client=self.client, **given)
        assert type(answer).__name__ == expect, answer
        return answer


@pytest.fixture
def caller(generated: Generated, database: str) -> Iterator[Caller]:
    """The client at the door of a service that runs no jobs by itself."""
    settings = Settings(
        _env_file=None,
        database_url=database,
        bootstrap_api_key=ADMIN_KEY,
        secret_keys=FERNET_KEY,
        worker_watch_seconds=0,
    )
    with run_in_thread(create_app(settings)) as url:
        made = generated.client.AuthenticatedClient(
            base_url=url, token=ADMIN_KEY, timeout=60, raise_on_unexpected_status=True
        )
        with made as client:
            yield Caller(generated, client)


def test_nothing_of_the_document_is_left_out(generated: Generated) -> None:
    assert generated.printed.splitlines() == [f"Generating {_folder(generated)}"]
    paths = json.loads(DOCUMENT.read_text())["paths"].values()
    described = {path[method]["operationId"] for path in paths for method in METHODS & path.keys()}
    assert set(generated.operations) == described


def _folder(generated: Generated) -> Path:
    assert generated.client.__file__ is not None
    return Path(generated.client.__file__).parent


def test_the_manual_can_be_followed_with_a_generated_client(caller: Caller, crm_url: str) -> None:
    call = caller.call
    company = call("create_company", expect="CompanyOut", body=("CompanyIn", {"name": "cronus"}))
    assert company.name == "cronus"
    _connect(caller, crm_url)
    setup = call("use_default_synchronization_setup", "cronus", expect="DefaultSetupOut")
    assert setup.integration_table_mappings > 0
    _create(caller, "salespeople", "PS", {"Name": "Peter Saddow"})
    _create(caller, "customers", "10000", {"Name": "Adatum Corporation", "Salesperson_Code": "PS"})

    salesperson = _couple(caller, "salespeople", "PS", {"crm_id": USER})
    assert (salesperson.coupling.crm_id, salesperson.synchronization) == (UUID(USER), None)
    customer = _couple(caller, "customers", "10000", {"create_new": True})
    assert customer.synchronization.action == caller.generated.models.SynchAction.INSERTED
    changed = ("NavFieldsIn", {"fields": {"City": "Atlanta"}})
    call("change_nav_record", "cronus", "customers", "10000", expect="NavRecordOut", body=changed)
    result = _synchronize_now(caller, "customers", "10000")
    assert result.action == caller.generated.models.SynchAction.MODIFIED
    assert "Atlanta" in [change.new for change in result.changes]

    with closing(_crm(crm_url)) as crm:
        account = crm.read("accounts", str(customer.coupling.crm_id))
    told = [account[name] for name in ("name", "address1_city", "_ownerid_value")]
    assert told == ["Adatum Corporation", "Atlanta", USER]


def test_a_change_sends_nothing_but_what_was_named(generated: Generated) -> None:
    for name, given in (
        ("MappingPatch", {"crm_filter": "statecode eq 0"}),
        ("FieldMappingPatch", {"transformation": "UPPERCASE"}),
        ("CompanyPatch", {"display_name": "CRONUS"}),
        ("ConnectionPatch", {"is_enabled": True}),
        ("EntryPatch", {"maximum_attempts": 5}),
    ):
        assert getattr(generated.models, name)(**given).to_dict() == given


def test_a_problem_comes_back_with_its_code(caller: Caller, crm_url: str) -> None:
    caller.call("create_company", expect="CompanyOut", body=("CompanyIn", {"name": "cronus"}))
    _connect(caller, crm_url)
    caller.call("use_default_synchronization_setup", "cronus", expect="DefaultSetupOut")
    for code in ("PS", "JR"):
        _create(caller, "salespeople", code, {"Name": code})
    _couple(caller, "salespeople", "PS", {"crm_id": USER})
    problem = _couple(caller, "salespeople", "JR", {"crm_id": USER}, expect="Problem")
    assert (problem.status, problem.code) == (409, "already-coupled")
    assert "PS" in problem.detail
    unknown = caller.call("get_nav_record", "cronus", "customers", "NOBODY", expect="Problem")
    assert (unknown.status, unknown.code) == (404, "nav-record-not-found")


def _connect(caller: Caller, crm_url: str) -> None:
    saved = ("ConnectionIn", _setup(crm_url))
    connection = caller.call("replace_crm_connection", "cronus", expect="ConnectionOut", body=saved)
    assert connection.is_enabled is False
    change = ("ConnectionPatch", {"is_enabled": True})
    enabled = caller.call("change_crm_connection", "cronus", expect="EnabledConnectionOut", body=change)
    assert enabled.is_enabled is True


def _couple(caller: Caller, table: str, no: str, how: dict[str, Any], expect: str = "CoupledOut") -> Any:
    return caller.call("couple_record", "cronus", table, no, expect=expect, body=("CouplingIn", how))


def _synchronize_now(caller: Caller, table: str, no: str) -> Any:
    how = ("SynchronizeIn", {"direction": "to_crm"})
    return caller.call("synchronize_record", "cronus", table, no, expect="RecordResultOut", body=how)


def _create(caller: Caller, table: str, no: str, fields: dict[str, str]) -> None:
    made = caller.call(
        "create_nav_record", "cronus", table, expect="NavRecordOut",
        body=("NavRecordIn", {"no": no, "fields": fields}),
    )  # fmt: skip
    assert (made.no, made.fields["Name"]) == (no, fields["Name"])


def _setup(url: str) -> dict[str, Any]:
    login = {"type": "client_secret", "tenant_id": DEFAULT_TENANT, "client_id": DEFAULT_CLIENT}
    return {"server_url": url, "authentication": {**login, "client_secret": DEFAULT_SECRET, "authority": url}}
