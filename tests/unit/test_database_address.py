"""Addresses of databases, in the spellings that people and hosts give them."""

import pytest

from app.db.engine import async_url, libpq_url


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_is_understood(scheme: str) -> None:
    assert async_url(f"{scheme}://u:p@h/d").drivername == "postgresql+asyncpg"


def test_another_database_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="mysql"):
        async_url("mysql://h/d")


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("postgres://u:p@h:5433/d?sslmode=require", "postgresql://u:p@h:5433/d?sslmode=require"),
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql://u:p@h/d?sslmode=require"),
        ("postgresql://u@h/d?sslmode=require&channel_binding=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql://u@h/d?connect_timeout=5&search_path=x", "postgresql://u@h/d?search_path=x"),
        ("postgresql://u@h/d?prepared_statement_cache_size=0", "postgresql://u@h/d"),
        ("postgresql://u:p%40%2F@h/d", "postgresql://u:p%40%2F@h/d"),
    ],
)
def test_the_driver_gets_what_it_knows_and_nothing_else(given: str, understood: str) -> None:
    assert libpq_url(given) == understood
