"""Companies: create, change, delete, and reach their NAV side."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from app.domain.company import Company, Generation, NavKind
from app.domain.errors import FieldProblem, Invalid, PreconditionFailed, RuleBroken
from app.ports import Context
from app.use_cases.repeating import on_what_is_there

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CLIENT_SCHEMES = ("https", "http", "dynamicsnav")
_CHANGEABLE = ("display_name", "nav", "nav_web_client_url", "defaults_generation", "local_currency")


async def create_company(
    ctx: Context,
    *,
    name: str,
    display_name: str | None = None,
    nav: Mapping[str, Any] | None = None,
    nav_web_client_url: str | None = None,
    defaults_generation: Generation = Generation.NAV2018,
    local_currency: str = "GBP",
) -> Company:
    """A new company. Raises Invalid with what is wrong per field, AlreadyExists."""
    company = Company(
        id=0,
        name=name,
        display_name=display_name or name,
        nav=dict(nav or {"kind": NavKind.EMBEDDED}),
        nav_web_client_url=nav_web_client_url,
        defaults_generation=defaults_generation,
        local_currency=local_currency,
    )
    _check(company)
    async with ctx.uow() as tx:
        return await tx.companies.add(company)


async def change_company(
    ctx: Context, name: str, changes: Mapping[str, Any], revision: int | None = None
) -> Company:
    """Changes what `changes` names. Settings of `nav` that are left out stay on the same connector (secrets
    are never shown, so they cannot be sent back); another kind or another address needs all of them.

    Raises CompanyNotFound, PreconditionFailed, Invalid; RuleBroken when the records would move to
    another NAV while couplings with the present ones exist.
    """
    unknown = [field for field in changes if field not in _CHANGEABLE]
    if unknown:
        problems = [FieldProblem(f"/{field}", "This cannot be changed.") for field in unknown]
        raise Invalid("A company's name is its address and stays.", errors=problems)
    return await on_what_is_there(revision, lambda: _change_company(ctx, name, changes, revision))


async def _change_company(
    ctx: Context, name: str, changes: Mapping[str, Any], revision: int | None
) -> Company:
    async with ctx.uow() as tx:
        company = await tx.companies.get(name)
        _require_revision(company, revision)
        changed = replace(company, **_merged(company, changes))
        _check(changed)
        if changed == company:
            return company
        moves = changed.nav.get("kind") != company.nav.get("kind")
        if moves and await tx.couplings.count(company.id):
            raise RuleBroken(
                f"The records of {name} are coupled: their NAV cannot be exchanged.",
                fix="Uncouple them first: POST …/integration-table-mappings/{mapping}/uncouple.",
            )
        return await tx.companies.save(changed)


def check_change(company: Company, changes: Mapping[str, Any]) -> None:
    """Raises Invalid with what is wrong per field unless the company could be changed so."""
    _check(replace(company, **_merged(company, changes)))


def _merged(company: Company, changes: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(changes)
    nav = values.get("nav")
    if nav is not None and _is_same_connector(company.nav, nav):
        values["nav"] = {**company.nav, **nav}
    if "nav" in values and nav is None:
        values["nav"] = {"kind": NavKind.EMBEDDED}
    if "display_name" in values and not values["display_name"]:
        values["display_name"] = company.name
    return values


def _is_same_connector(stored: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """A password is never sent to another address than it was entered for."""
    addresses = [name for name, value in given.items() if isinstance(value, str) and "://" in value]
    return all(given.get(name) == stored.get(name) for name in ("kind", *addresses))


async def delete_company(ctx: Context, name: str, revision: int | None = None) -> None:
    """Deletes the company with everything below it: NAV records kept here, connection, mappings,
    couplings, jobs, logs. Nothing changes in CRM, or in a NAV far away. Keys that were bound to it are no longer, and
    those bound to it alone are revoked: another company of that name is none of theirs. Raises CompanyNotFound,
    PreconditionFailed."""
    async with ctx.uow() as tx:
        company = await tx.companies.get(name, lock=True)
        _require_revision(company, revision)
        await tx.api_keys.unbind(name, ctx.clock.now())
        await tx.companies.delete(company.id)
    await ctx.sides.forget(company)
    if company.nav.get("kind") == NavKind.EMBEDDED:
        await ctx.sides.nav(company).clear()


async def test_nav(ctx: Context, company: Company) -> Mapping[str, Any]:
    """What the NAV side says when it is reached. Changes nothing. Raises NavUnavailable."""
    return await ctx.sides.nav(company).test()


def _require_revision(company: Company, revision: int | None) -> None:
    if revision is not None and revision != company.revision:
        raise PreconditionFailed(
            f"The company {company.name} was changed since you read it.",
            fix=f"GET /api/v1/companies/{company.name} and repeat the change.",
        )


def _check(company: Company) -> None:
    problems: list[FieldProblem] = []
    if not _NAME.fullmatch(company.name):
        suggestion = re.sub(r"[^a-z0-9]+", "-", company.name.lower()).strip("-")[:50].strip("-")
        message = "The name stands in addresses: small letters, digits and hyphens between them, at most 50."
        problems.append(FieldProblem("/name", message, suggestion or None))
    if not _CURRENCY.fullmatch(company.local_currency):
        message = "The local currency is an ISO code of three capital letters."
        suggestion = company.local_currency.strip().upper()
        problems.append(
            FieldProblem("/local_currency", message, suggestion if _CURRENCY.fullmatch(suggestion) else None)
        )
    if company.nav.get("kind") not in tuple(NavKind):
        problems.append(
            FieldProblem("/nav/kind", f"The kind is one of {', '.join(NavKind)}.", NavKind.EMBEDDED)
        )
    if company.nav_web_client_url is not None and (problem := _client_problem(company.nav_web_client_url)):
        problems.append(FieldProblem("/nav_web_client_url", problem))
    if problems:
        raise Invalid("The company cannot be saved like this.", errors=problems)


def _client_problem(url: str) -> str | None:
    """What is wrong with the address of a NAV client: links lead there, so it must be one."""
    try:
        given = urlsplit(url)
    except ValueError:
        return "This is not a valid URL."
    if given.scheme.lower() not in _CLIENT_SCHEMES:
        return "The address of a NAV client begins with https://, http:// or DynamicsNAV://."
    if given.scheme.lower() != "dynamicsnav" and not given.hostname:
        return "The address names no host."
    if given.username is not None or re.search(r"[\s\x00-\x1f<>\"]", url):
        return "The address must not hold a user name, blanks or quotes."
    return None
