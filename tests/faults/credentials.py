"""Credentials that end, are exchanged, or are missed by many at once."""

import tempfile
from pathlib import Path
from typing import Any

from tests.faults.scenario import fault
from tests.faults.world import Shift, World, eventually, hold, running
from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import until
from tests.flow.service import Service
from tests.flow.test_oauth import OAUTH

KEY = "PIPELINE_KLAVIYO__API_KEY"
PROBES = 15  # calls in 5 s of a halt; each direction asks now and then


async def halted(service: Service, reason: str, value: int) -> None:
    async def is_so() -> bool:
        return await service.metric("halted", {"reason": reason}) == value

    await eventually(is_so, f"{reason} is {value}", within=60)


async def stands_still(shift: Shift, service: Service) -> None:
    """Nothing is burned: no dead letter, few calls, ready says why."""
    asked = shift.asked
    await hold(5, service)
    assert shift.asked - asked <= PROBES, f"{shift.asked - asked} calls while halted"
    assert (await service.get("/readyz"))[0] == 503
    assert await service.metric("dead_letters_total") == 0


@fault(19, "the key is revoked, then exchanged in its file; 403 for events", "I1 I9")
async def key_revoked(world: World) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / KEY
        file.write_text("pk_old")
        async with world.shift(seed=119) as shift:
            service = shift.service(secrets_dir=folder)
            del service._environ[KEY]
            async with service:
                await running(service)
                async with shift.selling(200, 500, a_second=60):
                    await until(lambda: shift.accepted > 20, what="load")
                    shift.set(revoked_keys=["pk_old"])
                    await halted(service, "unauthorized", 1)
                    await stands_still(shift, service)
                    file.write_text("pk_new")
                    await halted(service, "unauthorized", 0)
                    events = ["POST /api/events", "POST /api/event-bulk-create-jobs"]
                    shift.set(forbidden=events)
                    await halted(service, "forbidden", 1)
                    await stands_still(shift, service)
                    shift.set(forbidden=[])
                    await halted(service, "forbidden", 0)
                await shift.done(service)
            return await shift.balance()


@fault(20, "OAuth: tokens of 12 s end under load, their renewal takes 6 s", "I1 I9")
async def token_expires(world: World) -> str:
    """It begins 2 to 4 s ahead, so that 40 connections find the token ended."""
    async with world.shift(seed=120) as shift:
        own: dict[str, Any] = {"subscription__name": f"test {shift.number}"}
        environ = oauth_environ(shift.bootstrap, shift.sandbox.url, **own)
        shift.set(oauth_token_seconds=12)
        code, out = await Command.login(environ)
        assert code == 0, out
        asked = shift.sandbox.oauth.counts["refused"]  # whether the app is known
        slow = {"kind": "delay", "seconds": 6}
        shift.fault({"match": {"path": "/oauth/token"}, "action": slow})
        counts = shift.sandbox.oauth.counts
        async with shift.service(
            **OAUTH, throttle__concurrent_connections="40"
        ) as service:
            async with shift.selling(300, 900, a_second=50):
                await until(lambda: counts["refreshed"] >= 3, what="three renewals")
            await shift.done(service)
        assert counts["refused"] == asked, "a refresh token was used again"
        return f"{await shift.balance()}; {counts['refreshed']} renewals, none refused"
