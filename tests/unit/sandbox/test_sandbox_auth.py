"""Credentials: keys, revocation, scopes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from pipeline.sandbox import Sandbox

Ask = Callable[..., Awaitable[tuple[int, Any, Mapping[str, str]]]]


@pytest.mark.parametrize(
    "given", ["", "pk_test", "Bearer pk_test", "Klaviyo-API-Key test", "Klaviyo-API-Key "]
)
async def test_no_key_no_answer(ask: Ask, given: str) -> None:
    status, body, _ = await ask("GET", "/api/accounts", headers={"Authorization": given})
    assert status == 401
    assert body["errors"][0]["status"] == 401


async def test_a_fixed_key_is_the_only_one(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.settings = sandbox.settings.changed({"key": "pk_other"})
    assert (await ask("GET", "/api/accounts"))[0] == 401
    other = {"Authorization": "Klaviyo-API-Key pk_other"}
    assert (await ask("GET", "/api/accounts", headers=other))[0] == 200


@pytest.mark.parametrize("revoked", ["pk_test", "*"])
async def test_a_revoked_key_is_401_until_it_works_again(
    ask: Ask, sandbox: Sandbox, revoked: str
) -> None:
    sandbox.settings = sandbox.settings.changed({"revoked_keys": [revoked]})
    assert (await ask("GET", "/api/accounts"))[0] == 401
    sandbox.settings = sandbox.settings.changed({"revoked_keys": []})
    assert (await ask("GET", "/api/accounts"))[0] == 200


@pytest.mark.parametrize(
    "patch", [{"missing_scopes": ["lists:read"]}, {"forbidden": ["GET /api/lists"]}]
)
async def test_a_missing_scope_is_403_there_and_only_there(
    ask: Ask, sandbox: Sandbox, patch: dict[str, Any]
) -> None:
    sandbox.settings = sandbox.settings.changed(patch)
    assert (await ask("GET", "/api/lists"))[0] == 403
    assert (await ask("GET", "/api/accounts"))[0] == 200


async def test_webhooks_are_not_for_private_keys(ask: Ask) -> None:
    assert (await ask("GET", "/api/webhooks"))[0] == 403
