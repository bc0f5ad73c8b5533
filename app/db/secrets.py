"""Secrets at rest: encrypted with the first of several keys, readable with each of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from pydantic_core import from_json, to_json
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.tables import company, crm_connection, idempotency_key
from app.domain.errors import SecretsUnreadable

SECRET_NAMES = frozenset(
    {
        "password",
        "client_secret",
        "certificate",  # where people keep it, its private key often stands beside it
        "private_key",
        "private_key_password",
        "web_service_access_key",
        "access_key",
    }
)
"""The names under which a connector's settings hold secrets, however deep."""


class Vault:
    """Encrypts small documents. What it made begins with the id of the key, so that a rotation can tell
    what is left to do and a missing key can be named."""

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        """`keys` are Fernet keys; the first encrypts, all decrypt."""
        if not keys:
            raise ValueError("A vault needs at least one key.")
        self._keys = {_key_id(key): Fernet(key) for key in keys}
        self._current = _key_id(keys[0])

    def encrypt(self, document: Mapping[str, Any]) -> bytes:
        """The document, encrypted with the first key."""
        return self._current + b":" + self._keys[self._current].encrypt(to_json(document))

    def decrypt(self, stored: bytes) -> dict[str, Any]:
        """The document. Raises SecretsUnreadable when its key is not among ours or it was altered."""
        key_id, _, token = bytes(stored).partition(b":")
        if key_id not in self._keys:
            raise SecretsUnreadable(
                f"A stored secret was encrypted with the key {key_id.decode(errors='replace')}, which is not among "
                f"the {len(self._keys)} keys of this service.",
                fix="Add that key to NAVCRM_SECRET_KEYS, or save the secret again.",
            )
        try:
            document: dict[str, Any] = from_json(self._keys[key_id].decrypt(token))
        except InvalidToken:
            raise SecretsUnreadable(
                "A stored secret is damaged: it does not match the key it was encrypted with.",
                fix="Save the secret again.",
            ) from None
        return document

    def is_current(self, stored: bytes) -> bool:
        """Whether it was encrypted with the first key."""
        return bytes(stored).partition(b":")[0] == self._current

    def rotate(self, stored: bytes) -> bytes:
        """The same document, encrypted with the first key."""
        return stored if self.is_current(stored) else self.encrypt(self.decrypt(stored))


def _key_id(key: str | bytes) -> bytes:
    raw = key.encode() if isinstance(key, str) else key
    return hashlib.sha256(raw).hexdigest()[:8].encode()


@dataclass(frozen=True, slots=True)
class Rotation:
    """What became of the stored secrets: how many got the first key, and whose cannot be read with any of ours."""

    rotated: int
    unreadable: tuple[str, ...] = ()


async def rotate(connection: AsyncConnection, vault: Vault) -> Rotation:
    """Encrypts every stored secret with the first key. Older keys may be dropped then, unless one is unreadable.

    Answers kept for an Idempotency-Key are secrets, too; one that cannot be read helps nobody and is forgotten.
    """
    count = 0
    unreadable: list[str] = []
    named = await connection.execute(select(company.c.id, company.c.name))
    names = {row.id: row.name for row in named}
    for key, column, what in (
        (crm_connection.c.company_id, crm_connection.c.secrets, "the CRM connection"),
        (company.c.id, company.c.nav_secrets, "the NAV settings"),
    ):
        found = await connection.execute(select(key, column).where(column.is_not(None)).with_for_update())
        for company_id, stored in found.all():
            try:
                rotated = vault.rotate(stored)
            except SecretsUnreadable:
                unreadable.append(f"{what} of {names[company_id]}")
                continue
            if rotated != stored:
                statement = update(column.table).where(key == company_id).values({column.name: rotated})
                await connection.execute(statement)
                count += 1
    return Rotation(count + await _rotate_answers(connection, vault), tuple(unreadable))


async def _rotate_answers(connection: AsyncConnection, vault: Vault) -> int:
    kept = idempotency_key.c
    query = select(kept.caller, kept.key, kept.body).where(kept.body.is_not(None)).with_for_update()
    count = 0
    for caller, key, stored in (await connection.execute(query)).all():
        same = (kept.caller == caller, kept.key == key)
        try:
            rotated = vault.rotate(stored)
        except SecretsUnreadable:
            await connection.execute(delete(idempotency_key).where(*same))
            continue
        if rotated != stored:
            await connection.execute(update(idempotency_key).where(*same).values(body=rotated))
            count += 1
    return count


def split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings without their secrets, and the secrets alone in the same shape."""
    shown: dict[str, Any] = {}
    hidden: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            shown[name], below = split(value)
            if below:
                hidden[name] = below
        elif name in SECRET_NAMES and value is not None:
            hidden[name] = value
        else:
            shown[name] = value
    return shown, hidden


def join(shown: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """What `split` took apart."""
    joined = dict(shown)
    for name, value in hidden.items():
        joined[name] = join(joined.get(name) or {}, value) if isinstance(value, Mapping) else value
    return joined
