"""A NAV company of its own for each test."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.company import Company
from app.nav.store import EmbeddedNav


@pytest.fixture
def nav(engine: AsyncEngine) -> EmbeddedNav:
    """An embedded company whose connection is enabled."""
    return EmbeddedNav(engine, Company(1, "cronus", "CRONUS", tracking=True))


@pytest.fixture
def nav_of(engine: AsyncEngine) -> Callable[..., EmbeddedNav]:
    """Makes a NAV side of the same company, with other properties of the company."""

    def make(**properties: Any) -> EmbeddedNav:
        return EmbeddedNav(engine, Company(properties.pop("id", 1), "cronus", "CRONUS", **properties))

    return make
