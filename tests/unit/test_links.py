"""Links to NAV and to CRM, character by character."""

from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit
from uuid import UUID

import pytest

from app.domain.company import Company, ConnectionSetup, Credentials, Generation
from app.domain.links import CARD_PAGES, address_of, crm_url, guid_of, nav_url

WEB = "https://nav.contoso.example:8080/DynamicsNAV110"
CRONUS = Company(1, "cronus", "CRONUS International Ltd.", nav_web_client_url=WEB)
ID = UUID("6f1a0c5e-2f7b-4b34-9c53-2d8e3f5a7b90")
CRM = ConnectionSetup("https://contoso.crm4.dynamics.com", Credentials("client_secret", "t", "c"))


def filter_of(url: str | None) -> str:
    return parse_qs(urlsplit(url or "").query)["filter"][0]


def test_the_address_of_a_record_can_be_called_whatever_its_key_holds() -> None:
    assert address_of("customers", "K&M/01") == "…/nav/customers/K%26M%2F01"
    assert (
        address_of("contact-business-relations", "CT1,D'A") == "…/nav/contact-business-relations/CT1%2CD%27A"
    )


def test_a_crm_link_opens_the_record_by_entity_name_and_id() -> None:
    link = "https://contoso.crm4.dynamics.com/main.aspx?pagetype=entityrecord&etn=account"
    assert crm_url(CRM, "account", ID) == f"{link}&id={ID}"


def test_a_crm_link_names_the_app_when_the_connection_does() -> None:
    app = UUID(int=7)
    assert crm_url(replace(CRM, app_id=app), "systemuser", ID).endswith(
        f"&etn=systemuser&id={ID}&appid={app}"
    )


def test_a_web_client_link_of_nav_2018() -> None:
    assert nav_url(CRONUS, "customers", "10000") == (
        f"{WEB}/?company=CRONUS%20International%20Ltd.&page=21&mode=View&filter=%27No.%27%20IS%20%2710000%27"
    )


def test_an_address_that_was_copied_from_an_open_client_leads_to_the_record_asked_for() -> None:
    copied = f"{WEB}/?tenant=t1&Page=9305&mode=Edit&bookmark=27%3BEgAAAAJ7CDAA"
    link = nav_url(replace(CRONUS, nav_web_client_url=copied), "customers", "10000") or ""
    named = [name.lower() for name, _ in parse_qsl(urlsplit(link).query)]
    assert named == ["tenant", "company", "page", "mode", "filter"]
    assert "page=21&mode=View" in link


@pytest.mark.parametrize(
    "base", [WEB, f"{WEB}/", f"{WEB}/WebClient", f"{WEB}/WebClient/", f"{WEB}/WebClient/default.aspx"]
)
def test_a_web_client_link_of_nav_2016_and_2017(base: str) -> None:
    company = replace(CRONUS, nav_web_client_url=base, defaults_generation=Generation.NAV2017)
    link = nav_url(company, "contacts", "CT000001")
    assert (link or "").startswith(f"{WEB}/WebClient/default.aspx?company=")


def test_an_address_of_an_older_client_is_kept_whatever_the_defaults_say() -> None:
    company = replace(CRONUS, nav_web_client_url=f"{WEB}/WebClient")
    assert (nav_url(company, "items", "1000") or "").startswith(f"{WEB}/WebClient/default.aspx?")


def test_a_business_central_link_keeps_what_the_address_says() -> None:
    company = replace(
        CRONUS,
        nav_web_client_url="https://businesscentral.dynamics.com/contoso.example/Sandbox/?company=My%20Company&tenant=t1",
        nav={"kind": "business_central"},
        defaults_generation=Generation.BC,
    )
    assert nav_url(company, "salespeople", "PS") == (
        "https://businesscentral.dynamics.com/contoso.example/Sandbox/?company=My%20Company&tenant=t1&page=5116"
        "&mode=View&filter=%27Code%27%20IS%20%27PS%27"
    )


def test_the_connector_may_say_how_nav_calls_the_company() -> None:
    company = replace(CRONUS, nav={"kind": "nav_odata", "company": "CRONUS & Sons #1"})
    assert "company=CRONUS%20%26%20Sons%20%231&" in (nav_url(company, "customers", "1") or "")


@pytest.mark.parametrize("table, page", CARD_PAGES.items())
def test_every_table_with_a_page_opens_it(table: str, page: int) -> None:
    assert f"&page={page}&" in (nav_url(CRONUS, table, "1,2") or "")


def test_a_record_without_a_page_or_a_client_has_no_link() -> None:
    assert nav_url(CRONUS, "contact-business-relations", "CT1,CUST") is None
    assert nav_url(replace(CRONUS, nav_web_client_url=None), "customers", "1") is None


@pytest.mark.parametrize("character", list("&|<>=.*?@()"))
def test_an_operator_of_nav_filters_is_wrapped(character: str) -> None:
    assert filter_of(nav_url(CRONUS, "customers", f"A{character}B")) == f"'No.' IS '''A{character}B'''"


def test_an_apostrophe_is_doubled_and_wrapped() -> None:
    assert filter_of(nav_url(CRONUS, "customers", "O'NEIL")) == "'No.' IS '''O''NEIL'''"


@pytest.mark.parametrize("character", [*" #+%/;,:-_", "Ü", "Ж"])
def test_any_other_character_is_only_encoded(character: str) -> None:
    link = nav_url(CRONUS, "customers", f"A{character}B") or ""
    assert filter_of(link) == f"'No.' IS 'A{character}B'"
    assert link.isascii()
    assert not {" ", "+", "#"}.intersection(link)


def test_a_key_of_two_parts_is_asked_for_by_both() -> None:
    assert filter_of(nav_url(CRONUS, "sales-headers", "Order,1001")) == (
        "'Document Type' IS 'Order' AND 'No.' IS '1001'"
    )


@pytest.mark.parametrize(
    "base, beginning",
    [
        ("DynamicsNAV://nav.example:7046/NAV110", "nav.example:7046/NAV110/CRONUS%20International%20Ltd."),
        ("dynamicsnav://nav.example/NAV110/CRONUS%20Int./", "nav.example/NAV110/CRONUS%20Int."),
        ("DynamicsNAV:////", "//CRONUS%20International%20Ltd."),
    ],
)
def test_a_link_of_the_windows_client(base: str, beginning: str) -> None:
    link = nav_url(replace(CRONUS, nav_web_client_url=base), "customers", "10000")
    assert link == f"DynamicsNAV://{beginning}/runpage?page=21&mode=View&$filter='No.'-IS-'10000'"


def test_the_windows_client_gets_its_special_characters_encoded() -> None:
    company = replace(CRONUS, nav_web_client_url="DynamicsNAV://s/i")
    link = nav_url(company, "customers", "A&B#1") or ""
    assert unquote(link).endswith("$filter='No.'-IS-'''A&B#1'''")
    assert link.count("&") == 2
    assert "#" not in link


@pytest.mark.parametrize("text", [str(ID), f"{{{ID}}}", str(ID).upper(), f" {{{str(ID).upper()}}} ", ID.hex])
def test_an_id_is_understood_with_braces_and_in_any_case(text: str) -> None:
    assert guid_of(text) == ID


@pytest.mark.parametrize("text", ["", "10000", f"{ID}x", f"{ID}\n{ID}", "{}", f"{ID}' or 1 eq 1"])
def test_what_is_no_id_is_none(text: str) -> None:
    assert guid_of(text) is None
