"""From a connection setup to the CRM behind it: clients are opened once, shared and closed."""

import fnmatch
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from app.crm.auth import PUBLIC_CLOUD, EntraAuth
from app.crm.client import PATIENCE, Contact, DataverseClient, Patience
from app.crm.connection_test import ConnectionTest
from app.crm.lanes import DEFAULT_LANES, Lanes
from app.crm.store import Dataverse
from app.domain.company import ConnectionSetup
from app.domain.errors import InvalidServerUrl
from app.ports import ConnectionReport

Transport = Callable[[], httpx.AsyncBaseTransport]


@dataclass(frozen=True, slots=True)
class _Opened:
    revision: int
    store: Dataverse


class Connector:
    """Opens CRM for the companies of this process.

    Args:
        lanes: requests at once to one organization as one application user; `organizations` lets several
            processes share them.
        allowed_hosts: patterns of the hosts that connections may name (`*.crm4.dynamics.com`); empty: any.
        transport: makes what carries the requests of a client; the network if not given.
        tls: whom to trust; the system's certificate authorities if not given.
    """

    def __init__(
        self,
        *,
        lanes: int = DEFAULT_LANES,
        allowed_hosts: Sequence[str] = (),
        transport: Transport | None = None,
        tls: ssl.SSLContext | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        self._size = lanes
        self._allowed_hosts = tuple(pattern.lower() for pattern in allowed_hosts)
        self._transport = transport
        self._tls = tls
        self._patience = patience
        self._opened: dict[int, _Opened] = {}
        self._replaced: list[Dataverse] = []
        self._lanes: dict[tuple[str, str], Lanes] = {}

    def open(self, company_id: int, setup: ConnectionSetup) -> Dataverse:
        """The CRM of a company; the same one until its setup has another revision.

        Raises InvalidServerUrl if the setup names a host that is not allowed.
        """
        opened = self._opened.get(company_id)
        if opened is not None and opened.revision == setup.revision:
            return opened.store
        if opened is not None:
            # Somebody may be in the middle of using it: it is closed with everything else.
            self._replaced.append(opened.store)
        ignored = setup.user_id if setup.ignore_changes_by_user else None
        store = Dataverse(self._client(setup), ignored_user=ignored)
        self._opened[company_id] = _Opened(setup.revision, store)
        return store

    async def test(self, setup: ConnectionSetup, local_currency: str | None = None) -> ConnectionReport:
        """Tries a connection step by step; saved or not, enabled or not."""
        client = self._client(setup)
        try:
            return await ConnectionTest(client, local_currency).run()
        finally:
            await client.aclose()

    async def forget(self, company_id: int) -> None:
        """Closes what was opened for the company, after its connection changed."""
        opened = self._opened.pop(company_id, None)
        if opened is not None:
            await opened.store.client.aclose()

    async def aclose(self) -> None:
        """Closes everything."""
        for store in [*self._replaced, *(opened.store for opened in self._opened.values())]:
            await store.client.aclose()
        self._opened.clear()
        self._replaced.clear()

    def organizations(self) -> dict[str, Lanes]:
        """The lanes to every organization this process talks to, by address and application user."""
        return {" ".join(who): lanes for who, lanes in self._lanes.items()}

    @property
    def lanes(self) -> int:
        """Requests at once to one organization, all processes together."""
        return self._size

    def contacts(self) -> dict[int, Contact]:
        """What the latest contact of each company with its CRM showed, where there was one."""
        latest = {company_id: opened.store.client.contact for company_id, opened in self._opened.items()}
        return {company_id: contact for company_id, contact in latest.items() if contact is not None}

    def _client(self, setup: ConnectionSetup) -> DataverseClient:
        self._require_allowed(setup)
        # The service protection limits are per user and organization, whichever companies share them.
        who = (setup.server_url.rstrip("/").lower(), setup.credentials.client_id.lower())
        auth = EntraAuth(setup.credentials, setup.server_url)
        return DataverseClient(
            setup.server_url,
            auth,
            api_version=setup.api_version,
            lanes=self._lanes.setdefault(who, Lanes(self._size)),
            transport=self._transport() if self._transport else None,
            tls=self._tls,
            patience=self._patience,
            without_secrets=auth.without_secrets,
        )

    def _require_allowed(self, setup: ConnectionSetup) -> None:
        if not self._allowed_hosts:
            return
        for address in (setup.server_url, setup.credentials.authority or PUBLIC_CLOUD):
            host = httpx.URL(address).host.lower()
            if not any(fnmatch.fnmatch(host, pattern) for pattern in self._allowed_hosts):
                raise InvalidServerUrl(
                    f"Connections may not lead to {host}.",
                    fix="Add the host to NAVCRM_ALLOWED_OUTBOUND_HOSTS, or correct the connection.",
                )
