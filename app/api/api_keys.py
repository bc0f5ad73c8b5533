"""API keys over HTTP."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Path, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import BASE, CallerDep, ContextDep
from app.api.models import Moment
from app.api.operation import api_router, operation
from app.api.pages import Page, PagingDep
from app.domain.access import ApiKey, Scope
from app.domain.errors import Forbidden
from app.use_cases import api_keys

router = api_router(f"{BASE}/api-keys", "API keys")


class ApiKeyIn(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "web shop", "scopes": ["read", "sync"], "companies": ["cronus"]}]
        },
    )

    name: str = Field(min_length=1, max_length=100, description="What the key is for.")
    scopes: list[Scope] = Field(min_length=1, description="Each includes the ones before: read, sync, admin.")
    companies: list[str] | None = Field(
        default=None, min_length=1, description="Names of the companies it is bound to; null: every company."
    )
    expires_at: Moment | None = Field(default=None, description="null: never.")
    email: str | None = Field(
        default=None,
        min_length=3,
        max_length=320,
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="By which CRM knows who uses the key, for companies whose callers must be CRM users.",
    )


class ApiKeyOut(BaseModel):
    """A key, without the key itself."""

    id: UUID
    name: str
    prefix: str = Field(description="The first characters of the key, to recognize it by.")
    scopes: list[Scope]
    companies: list[str] | None
    created_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None
    email: str | None


class CreatedApiKeyOut(ApiKeyOut):
    """A new key. This is the only time it is shown."""

    key: str = Field(description="Send it as `Authorization: Bearer <key>`.")


def _out(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": [scope for scope in Scope if scope in key.scopes],
        "companies": None if key.companies is None else list(key.companies),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "email": key.email,
    }


def _unbound(caller: CallerDep) -> None:
    """Keys belong to the whole service, so a key that is bound to companies cannot see or make any."""
    if caller.companies is not None:
        raise Forbidden("A key that is bound to companies cannot manage keys.")


@router.get("", summary="List API keys", response_model=Page[ApiKeyOut], **operation(Scope.ADMIN))
async def list_api_keys(ctx: ContextDep, caller: CallerDep, paging: PagingDep) -> dict[str, object]:
    """The keys that were not revoked, oldest first."""
    _unbound(caller)
    async with ctx.uow(reading=True) as tx:
        found = await tx.api_keys.page(paging.after(UUID), paging.limit + 1)
    keys, next_cursor = paging.cut(found, lambda key: key.id)
    return {"items": [_out(key) for key in keys], "next_cursor": next_cursor}


@router.post(
    "",
    status_code=201,
    summary="Create an API key",
    response_model=CreatedApiKeyOut,
    **operation(Scope.ADMIN, 409),
)
async def create_api_key(
    ctx: ContextDep, caller: CallerDep, body: ApiKeyIn, response: Response
) -> dict[str, object]:
    """Makes a key. The key itself is in this answer alone; only its hash is kept."""
    _unbound(caller)
    key, token = await api_keys.create_api_key(
        ctx, body.name, body.scopes, body.companies, body.expires_at, body.email
    )
    response.headers["Location"] = f"{BASE}/api-keys/{key.id}"
    return {**_out(key), "key": token}


@router.delete("/{id}", status_code=204, summary="Revoke an API key", **operation(Scope.ADMIN, 404))
async def delete_api_key(ctx: ContextDep, caller: CallerDep, id: Annotated[UUID, Path()]) -> None:
    """The key stops working at once."""
    _unbound(caller)
    await api_keys.revoke_api_key(ctx, id)
