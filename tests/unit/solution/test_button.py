"""The button "Dynamics NAV", run by a JavaScript engine that finds the Xrm API as CRM has it."""

import json
from typing import Any

import pytest
from py_mini_racer import MiniRacer

from app.solution.web_resources import script

SERVICE = "https://navcrm.cronus.example"
ACCOUNT = "{A56B3F4B-1BE7-E611-80E7-005056BF2A10}"
ID = "a56b3f4b-1be7-e611-80e7-005056bf2a10"

BROWSER = """
var window = globalThis;
var told = [], opened = [], queries = [];
function formOf(entity, id) {
    return { data: { entity: {
        getEntityName: function () { return entity; },
        getId: function () { return id; }
    } } };
}
"""

WEB_CLIENT = """
window.Xrm = {
    WebApi: {
        retrieveMultipleRecords: function (table, query) {
            queries.push([table, query]);
            return failure ? Promise.reject(failure) : Promise.resolve({ entities: rows });
        }
    },
    Navigation: {
        openUrl: function (url) { opened.push(url); },
        navigateTo: function (page, options) { opened.push([page, options]); return Promise.resolve(); },
        openAlertDialog: function (alert) { told.push(alert.text); return Promise.resolve(); }
    }
};
"""

CRM_2016 = """
window.Xrm = {
    Page: Object.assign(formOf(entity, id), {
        context: { getClientUrl: function () { return "https://crm.cronus.example/CRONUS"; } }
    }),
    Utility: {
        alertDialog: function (text) { told.push(text); },
        openWebResource: function (name, data) { opened.push([name, data]); }
    }
};
window.open = function (url) { opened.push(url); };
window.XMLHttpRequest = function () {
    this.headers = {};
    this.setRequestHeader = function (name, value) { this.headers[name] = value; };
    this.open = function (method, url) { queries.push([method, url]); };
    this.send = function () {
        this.readyState = 4;
        this.status = failure ? 403 : 200;
        this.responseText = JSON.stringify({ value: rows });
        this.onreadystatechange();
    };
};
"""

PAGE = """
function element(tag) {
    return { tag: tag, children: [], textContent: "",
             appendChild: function (child) { this.children.push(child); return child; } };
}
var elements = { text: element("p"), companies: element("ul") };
var page = { parent: window, location: { search: search } };
var doc = { createElement: element, getElementById: function (id) { return elements[id]; } };
"""


def row(company: str | None = "cronus", url: str | None = SERVICE, name: str | None = None) -> dict[str, Any]:
    """A NAV Connection as CRM gives it."""
    return {"navcrm_name": name or company, "navcrm_company": company, "navcrm_serviceurl": url}


class Client:
    """A browser with CRM in it, and what came of a press of the button."""

    def __init__(
        self, rows: list[dict[str, Any]], failure: str | None = None, default: str | None = None
    ) -> None:
        self.engine = MiniRacer()
        self.engine.eval(BROWSER)
        self.set(rows=rows, failure={"message": failure} if failure else None)
        self.default = default

    def set(self, **values: Any) -> None:
        """Gives the script these global variables."""
        for name, value in values.items():
            self.engine.eval(f"var {name} = {json.dumps(value)};")

    def press(self, entity: str = "account", id: str = ACCOUNT) -> "Client":
        """Presses the button on a form of the web client."""
        self.set(entity=entity, id=id)
        self.engine.eval(WEB_CLIENT)
        self._run("NavCrm.openFromForm(formOf(entity, id));")
        return self

    def press_in_2016(self, entity: str = "account", id: str = ACCOUNT) -> "Client":
        """Presses it in CRM 2016, which gives the command nothing that has data."""
        self.set(entity=entity, id=id)
        self.engine.eval(CRM_2016)
        self._run("NavCrm.openFromForm(null);")
        return self

    def show(self, search: str) -> "Client":
        """Opens the page of choice with this query string."""
        self.set(search=search)
        self.engine.eval(WEB_CLIENT + PAGE)
        self._run("NavCrm.showCompanies(page, doc);")
        return self

    def _run(self, call: str) -> None:
        self.engine.eval(script(self.default).decode())
        self.engine.eval(call)

    def _read(self, expression: str) -> Any:
        return json.loads(str(self.engine.eval(f"JSON.stringify({expression})")))

    @property
    def opened(self) -> list[Any]:
        """The addresses and pages that were opened."""
        found: list[Any] = self._read("opened")
        return found

    @property
    def told(self) -> list[str]:
        """What a dialog said."""
        found: list[str] = self._read("told")
        return found

    @property
    def queries(self) -> list[list[str]]:
        """What was read from CRM."""
        found: list[list[str]] = self._read("queries")
        return found

    @property
    def choices(self) -> list[dict[str, str]]:
        """The links on the page of choice."""
        found: list[dict[str, str]] = self._read("elements.companies.children.map(c => c.children[0])")
        return found

    @property
    def text(self) -> str:
        """The sentence on the page of choice."""
        return str(self._read("elements.text.textContent"))


@pytest.mark.parametrize("entity", ["account", "contact", "systemuser"])
def test_the_button_opens_the_record_by_its_entity_and_id(entity: str) -> None:
    client = Client([row()]).press(entity)
    assert client.opened == [f"{SERVICE}/open/nav?company=cronus&entity={entity}&id={ID}"]
    assert client.told == []


def test_it_reads_the_active_connections_and_nothing_else() -> None:
    ((table, query),) = Client([row()]).press().queries
    assert table == "navcrm_connection"
    assert query == (
        "?$select=navcrm_name,navcrm_company,navcrm_serviceurl&$filter=statecode eq 0&$orderby=navcrm_name asc"
    )


def test_a_record_that_was_never_saved_has_nothing_to_open() -> None:
    client = Client([row()]).press(id="")
    assert (client.opened, client.queries) == ([], [])
    assert "Save this record first" in client.told[0]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(company=None)],
        [row(company="  ")],
        [row(url=None)],
        [row(url="javascript:alert(1)")],
        [row(url="navcrm.cronus.example")],
    ],
)
def test_without_a_usable_connection_a_person_reads_what_to_do(rows: list[dict[str, Any]]) -> None:
    client = Client(rows).press()
    assert client.opened == []
    assert "Ask an administrator" in client.told[0]


def test_a_connection_without_an_address_uses_that_of_the_build() -> None:
    client = Client([row(url=None)], default="https://default.example/").press()
    assert client.opened == [f"https://default.example/open/nav?company=cronus&entity=account&id={ID}"]


def test_the_address_of_a_connection_goes_before_that_of_the_build() -> None:
    client = Client([row(url=f"{SERVICE}/crm/")], default="https://default.example").press()
    assert client.opened == [f"{SERVICE}/crm/open/nav?company=cronus&entity=account&id={ID}"]


def test_what_a_company_is_called_cannot_change_the_link() -> None:
    client = Client([row(company="a&entity=x#ü %")]).press()
    assert client.opened == [
        f"{SERVICE}/open/nav?company=a%26entity%3Dx%23%C3%BC%20%25&entity=account&id={ID}"
    ]


def test_when_connections_cannot_be_read_the_reason_of_crm_is_shown() -> None:
    client = Client([row()], failure="Principal user is missing prvReadnavcrm_connection privilege").press()
    assert client.opened == []
    assert "missing prvReadnavcrm_connection" in client.told[0]
    assert "NAV CRM Integration User" in client.told[0]


def test_of_two_companies_the_person_chooses_one() -> None:
    ((page, options),) = Client([row("cronus"), row("fabrikam")]).press("contact").opened
    assert page == {
        "pageType": "webresource",
        "webresourceName": "navcrm_/opennav.html",
        "data": f"entity=contact&id={ID}",
    }
    assert (options["target"], options["title"]) == (2, "Dynamics NAV")


def test_the_page_of_choice_links_to_each_company() -> None:
    rows = [row("cronus", name="CRONUS <International> Ltd."), row("fabrikam", "https://other.example")]
    client = Client(rows).show(f"?Data=entity%3Daccount%26id%3D{ID}")
    assert [(c["tag"], c["textContent"], c["href"]) for c in client.choices] == [
        ("a", "CRONUS <International> Ltd.", f"{SERVICE}/open/nav?company=cronus&entity=account&id={ID}"),
        ("a", "fabrikam", f"https://other.example/open/nav?company=fabrikam&entity=account&id={ID}"),
    ]
    assert {c["rel"] for c in client.choices} == {"noopener noreferrer"}
    assert "which company" in client.text


@pytest.mark.parametrize("search", ["", "?data=", "?data=entity%3Daccount", "?x=1"])
def test_the_page_of_choice_alone_says_how_it_is_opened(search: str) -> None:
    client = Client([row(), row("b")]).show(search)
    assert (client.choices, client.queries) == ([], [])
    assert "button Dynamics NAV" in client.text


def test_the_page_of_choice_shows_why_it_cannot_read() -> None:
    assert (
        "Too many requests" in Client([], failure="Too many requests.").show("?data=entity%3Da%26id%3Db").text
    )


def test_crm_2016_has_the_button_too() -> None:
    client = Client([row()]).press_in_2016("systemuser")
    assert client.opened == [f"{SERVICE}/open/nav?company=cronus&entity=systemuser&id={ID}"]
    ((method, url),) = client.queries
    assert method == "GET"
    assert url.startswith("https://crm.cronus.example/CRONUS/api/data/v8.2/navcrm_connections?$select=")
    assert " " not in url
    assert "CRM answered 403." in Client([], failure="no").press_in_2016().told[0]
    ((name, data),) = Client([row(), row("b")]).press_in_2016().opened
    assert (name, data) == ("navcrm_/opennav.html", f"entity=account&id={ID}")
