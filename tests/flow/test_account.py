"""A key of another account than before is refused, unless it is meant."""

import asyncio
from pathlib import Path

import pytest

from tests.flow.cli import call
from tests.flow.rig import Rig, until

pytestmark = pytest.mark.timeout(120)


async def test_every_command_that_sends_refuses_it_until_it_is_told(rig: Rig) -> None:
    topic = ("replay", "--topic", rig.customers)
    await rig.customer(id="C-1", email="ada@shop.dev")
    assert (await call(rig, *topic)).code == 0
    rig.set(account_id="OTHER")
    await rig.customer(id="C-2", email="bea@shop.dev")
    for arguments in (topic, ("run",), ("login",), ("sync", "profile", "x")):
        ended = await call(rig, *arguments)
        assert ended.code == 1, (arguments, ended)
        assert "account Sandbox (OTHER), but SaNdBx" in ended.err
        assert "login --replace" in ended.err
    checked = await call(rig, "check")
    assert checked.code == 1
    assert "login --replace" in checked.out
    assert len(rig.sandbox.state.profiles.by_id) == 1
    told = await call(rig, "login", "--replace")
    assert (told.code, told.out) == (0, "account: Sandbox (OTHER)\n")
    assert (await call(rig, "check")).code == 0
    assert (await call(rig, *topic)).code == 0
    assert len(rig.sandbox.state.profiles.by_id) == 2


async def test_a_key_that_is_rotated_while_it_runs_must_be_of_the_same_account(
    rig: Rig, tmp_path: Path
) -> None:
    key = tmp_path / "PIPELINE_KLAVIYO__API_KEY"
    key.write_text("pk_first")
    service = rig.service(secrets_dir=str(tmp_path))
    del service._environ["PIPELINE_KLAVIYO__API_KEY"]

    async def sent(number: int) -> None:
        await rig.customer(id=f"C-{number}", email=f"c{number}@shop.dev")

    async def profiles(number: int) -> None:
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == number)

    async with service:
        await sent(1)
        await profiles(1)
        rig.set(account_id="OTHER")
        key.write_text("pk_of_another")
        await asyncio.sleep(1.1)  # a file is looked at once a second
        await sent(2)
        async with asyncio.timeout(30):
            while not await service.metric("halted", {"reason": "unauthorized"}):
                await asyncio.sleep(0.1)
        status, text = await service.get("/readyz")
        assert status == 503
        assert "(OTHER), but SaNdBx" in text
        assert len(rig.sandbox.state.profiles.by_id) == 1
        rig.set(account_id="SaNdBx")
        rig.fault(  # as when all replicas ask at once whose the new key is
            {
                "match": {"path": "/api/accounts", "seconds": 5},
                "action": {"kind": "status", "status": 429, "retry_after": 5},
            }
        )
        key.write_text("pk_of_the_same")
        await profiles(2)
        assert rig.sandbox.ledger.statuses["GET /api/accounts"][429] == 1
        key.write_text("")  # the former one stays in force
        await asyncio.sleep(1.1)  # as above
        await sent(3)
        await profiles(3)
        rig.set(key="pk_whole")
        key.write_text("pk_who")  # half of it is written
        await sent(4)
        async with asyncio.timeout(30):
            while not await service.metric("halted", {"reason": "unauthorized"}):
                await asyncio.sleep(0.1)
        key.write_text("pk_whole")
        await profiles(4)
        assert await service.terminate() == 0
    assert "pk_" not in service.output
