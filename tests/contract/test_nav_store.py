"""The embedded NAV keeps the promises of a RecordStore."""

from typing import ClassVar

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Company
from app.domain.records import Values
from app.nav.store import EmbeddedNav
from tests.contract.record_store import RecordStoreContract


@pytest.mark.anyio
class TestNavStore(RecordStoreContract):
    """Customers in PostgreSQL."""

    table = "customers"
    name = "Name"
    city = "City"
    refused: ClassVar[Values] = {"Name": "x" * 51}

    @pytest.fixture
    def store(self, engine: AsyncEngine) -> EmbeddedNav:
        """A company whose connection is enabled."""
        return EmbeddedNav(engine, Company(1, "cronus", "CRONUS", tracking=True))
