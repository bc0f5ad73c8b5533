"""CRM keeps the promises of a RecordStore."""

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from app.crm.store import Dataverse
from app.domain.records import Values
from tests.contract.record_store import RecordStoreContract
from tests.crm_sandbox import crm_in_process


@pytest.mark.anyio
class TestCrmStore(RecordStoreContract):
    """Accounts in process."""

    table = "account"
    name = "name"
    city = "address1_city"
    refused: ClassVar[Values] = {"name": "x" * 5000}

    @pytest.fixture
    async def store(self) -> AsyncIterator[Dataverse]:
        """CRM without a network."""
        async with crm_in_process() as crm:
            yield crm.store
