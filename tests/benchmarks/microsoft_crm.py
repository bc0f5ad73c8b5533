"""CRM as the scripts on Microsoft's client reach it: the login, and writes that bear with CRM and with a bad row."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError

from tests.benchmarks.microsoft_nav import Changes, columns_of
from tests.benchmarks.scripts import Task, sets

ATTEMPTS = 5  # when CRM is busy (429, 503, ...)
CUSTOMER_TYPE = 3  # customertypecode of new accounts: Customer
ASKED = 50  # ids are part of the address
Columns = dict[str, Any]  # which the client insists on


class Credential:
    """The client secret's token, kept until shortly before it expires."""

    def __init__(self, task: Task) -> None:
        self._url, self._form = task.token_request()
        self._token: AccessToken | None = None

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """A token for at least two minutes."""
        if self._token is None or self._token.expires_on < time.time() + 120:
            answer = requests.post(self._url, data=self._form, timeout=30)
            answer.raise_for_status()
            found = answer.json()
            self._token = AccessToken(found["access_token"], int(time.time()) + int(found["expires_in"]))
        return self._token


def patiently(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls CRM, and again after a while if it is busy; the client itself repeats only after network errors."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call(*args, **kwargs)
        except HttpError as error:
            if not error.is_transient:
                raise
            time.sleep(error.details.get("retry_after") or 2**attempt)
    return call(*args, **kwargs)


def knock(crm: DataverseClient) -> None:
    """Connects and learns what CRM calls the table: the service, which runs all the time, has that behind it."""
    crm.records.list("account", select=["accountid"], filter=f"accountid eq {UUID(int=0)}")


def existing_accounts(crm: DataverseClient, ids: Sequence[str]) -> set[str]:
    """Those of the ids that CRM has an account of."""
    found: set[str] = set()
    for some in sets(ids, ASKED):
        condition = " or ".join(f"accountid eq {account_id}" for account_id in some)
        answer = patiently(crm.records.list, "account", select=["accountid"], filter=condition)
        found.update(account["accountid"].lower() for account in answer)
    return found


def create_accounts(crm: DataverseClient, new: Mapping[str, Changes]) -> Iterable[str]:
    """Creates accounts of these values by id, all at once if CRM lets it; the ids of those that are in CRM now.
    Raises HttpError when CRM is not well: the next run goes on from here."""
    if not new:
        return []
    rows = {
        account_id: {"accountid": account_id, "customertypecode": CUSTOMER_TYPE, **columns_of(values)}
        for account_id, values in new.items()
    }
    try:
        patiently(crm.records.create, "account", list(rows.values()))
        return list(rows)
    except HttpError as error:
        if error.is_transient:
            raise
        _log(f"{len(rows)} accounts could not be created together ({error}), trying one by one")

    def create(account_id: str, row: Columns) -> None:
        # A request that was answered too late may have created it after all.
        if existing_accounts(crm, [account_id]):
            columns = {column: value for column, value in row.items() if column != "accountid"}
            crm.records.update("account", account_id, columns)
        else:
            crm.records.create("account", row)

    return _one_by_one(create, rows)


def update_accounts(crm: DataverseClient, changed: Mapping[str, Changes]) -> Iterable[str]:
    """Changes accounts by id, all at once if CRM lets it; the ids of those that are up to date now. Raises HttpError
    when CRM is not well."""
    if not changed:
        return []
    rows = {account_id: columns_of(changes) for account_id, changes in changed.items()}
    try:
        patiently(crm.records.update, "account", list(rows), list(rows.values()))
        return list(rows)
    except HttpError as error:
        if error.is_transient:
            raise
        _log(f"{len(rows)} accounts could not be updated together ({error}), trying one by one")
    return _one_by_one(lambda account_id, row: crm.records.update("account", account_id, row), rows)


def _one_by_one(write: Callable[[str, Columns], Any], rows: Mapping[str, Columns]) -> list[str]:
    """A bulk request is all or nothing, and one bad record must not hold up the others. It is tried again when the
    customer is changed, or at the daily comparison."""
    done = []
    for account_id, row in rows.items():
        try:
            patiently(write, account_id, row)
            done.append(account_id)
        except HttpError as error:
            if error.is_transient:
                raise
            _log(f"account {account_id} ({row.get('name', 'name unchanged')}) not carried: {error}")
    return done


def _log(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, file=sys.stderr)
