"""OAuth by command, beside the running service, with a search for secrets at the end."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from confluent_kafka import Consumer, TopicPartition

from pipeline.demo.broker import Broker
from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache
from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import Rig, until
from tests.oauth_user import KEY, OTHER_KEY, decide

pytestmark = pytest.mark.timeout(150)
OAUTH = {
    "klaviyo__api_key": "",
    "klaviyo__client_id": "sandbox",
    "klaviyo__client_secret": "sandbox",
    "secrets__key": KEY,
}


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as mock:
        yield mock


def secrets(sandbox: Sandbox) -> list[str]:
    """All tokens in force; the client's secret of these tests is a word."""
    return [
        token
        for install in sandbox.oauth.installs
        for token in (install.refresh, *install.access)
    ]


def everything(bootstrap: str) -> bytes:
    """All bytes of all topics."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "eyes"})
    there = consumer.list_topics(timeout=10).topics
    consumer.assign([TopicPartition(t, n, 0) for t in there for n in there[t].partitions])
    found, idle = b"", 0
    while idle < 20:
        message = consumer.poll(0.1)
        if message is None or message.error():
            idle += 1
        else:
            idle = 0
            found += (message.key() or b"") + (message.value() or b"")
            found += repr(message.headers()).encode()
    consumer.close()
    return found


async def test_login_status_logout(broker: Broker) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        outputs = [await Command.run(environ, "status")]
        assert outputs[0][0] == 3
        assert "none is connected" in outputs[0][1]
        assert "klaviyo-pipeline login" in outputs[0][1]

        sandbox.settings = sandbox.settings.changed({"oauth_withheld": ["metrics:read"]})
        outputs.append(await Command.login(environ))
        code, out = outputs[-1]
        assert code == 0, out
        assert "account: Sandbox (SaNdBx)" in out
        assert "missing scopes: metrics:read" in out
        assert "access token until: 2" in out

        outputs.append(await Command.run(environ, "status"))
        code, out = outputs[-1]
        assert code == 0, out
        assert "Sandbox (SaNdBx)" in out
        assert "profiles:write" in out
        assert "accepted" in out
        assert "metrics:read: not granted" in out
        assert "make a key" not in out
        found = secrets(sandbox)
        assert len(found) == 2

        outputs.append(await Command.run(environ, "logout"))
        assert outputs[-1] == (0, "Disconnected account Sandbox (SaNdBx).\n")
        assert sandbox.oauth.installs == []
        outputs.append(await Command.run(environ, "logout"))
        assert outputs[-1] == (0, "No account was connected.\n")
        assert (await Command.run(environ, "status"))[0] == 3
        stored = await asyncio.to_thread(everything, broker.address)
        assert b"oauth/tokens" in stored
        for secret in (*found, KEY):
            assert secret.encode() not in stored
            assert secret not in str(outputs)


async def test_a_pasted_address_where_there_is_no_browser(broker: Broker) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        async with Command(environ, "login", "--paste") as command:
            command.type(await decide(await command.url()))
            assert await command.ended() == 0, command.output
        async with Command(environ, "login", "--paste") as command:
            command.type(f"{await decide(await command.url())}&state=other")
            assert await command.ended() == 1
            assert "does not belong to this login" in command.output
        sandbox.settings = sandbox.settings.changed({"oauth_code_seconds": 0.0})
        async with Command(environ, "login", "--paste") as command:
            command.type(await decide(await command.url()))
            assert await command.ended() == 3
            assert "has expired, was used, or the app was removed" in command.output
        async with Command(environ, "login", "--paste") as command:
            command.type(await decide(await command.url(), "deny"))
            assert await command.ended() == 3
            assert "denied" in command.output


async def test_a_foreign_callback_is_refused_and_the_right_one_still_counts(
    broker: Broker,
) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        async with (
            Command(environ, "login", "--no-browser") as command,
            aiohttp.ClientSession() as http,
        ):
            callback = await decide(await command.url())
            async with http.get(f"{callback.partition('?')[0]}?code=x&state=y") as page:
                assert page.status == 400
            twice = [http.get(callback) for _ in range(2)]
            pages = await asyncio.gather(*twice, return_exceptions=True)
            # The second may come when nobody listens any more.
            codes = [p.status for p in pages if isinstance(p, aiohttp.ClientResponse)]
            assert sorted(codes) in ([200], [200, 400]), pages
            assert await command.ended() == 0, command.output


async def test_what_can_be_wrong_has_its_exit_code_and_says_what_to_do(
    broker: Broker,
) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        wrong = environ | {"PIPELINE_KLAVIYO__CLIENT_SECRET": "planted-secret"}
        code, out = await Command.run(wrong, "login", "--no-browser")
        assert code == 3
        assert "klaviyo.client_secret" in out
        assert "planted-secret" not in out

        with socket.socket() as taken:
            parts = urlsplit(environ["PIPELINE_KLAVIYO__REDIRECT_URL"])
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", parts.port or 0))
            taken.listen()
            code, out = await Command.run(environ, "login", "--no-browser")
        assert code == 2
        assert f"localhost:{parts.port}" in out
        assert "--paste" in out

        assert (await Command.login(environ))[0] == 0
        other_key = environ | {"PIPELINE_SECRETS__KEY": OTHER_KEY}
        for command in ("status", "check", "logout", "login"):
            code, out = await Command.run(other_key, command)
            assert code == 2, (command, out)
            assert "former key" in out
        both = environ | {"PIPELINE_SECRETS__KEY": f"{OTHER_KEY},{KEY}"}
        assert (await Command.run(both, "status"))[0] == 0

        sandbox.settings = sandbox.settings.changed({"account_id": "OTHER"})
        code, out = await Command.login(environ)
        assert code == 1
        assert "--replace" in out
        code, out = await Command.login(environ, "--replace")
        assert code == 0
        assert "(OTHER)" in out

        code, out = await Command.run(environ | {"PIPELINE_SECRETS__KEY": "x"}, "login")
        assert code == 2
        assert "no Fernet key" in out
        no_key = environ | {"PIPELINE_SECRETS__KEY": ""}
        code, out = await Command.run(no_key, "login")
        assert code == 2
        assert "Fernet.generate_key" in out
        keyed = {
            name: text
            for name, text in environ.items()
            if "CLIENT" not in name and "SECRETS" not in name
        } | {"PIPELINE_KLAVIYO__API_KEY": "pk_x"}
        code, out = await Command.run(keyed, "logout")
        assert code == 2
        assert "delete the key at Klaviyo" in out
        two = environ | {"PIPELINE_KLAVIYO__API_KEY": "pk_x"}
        code, out = await Command.run(two, "check")
        assert code == 2
        assert "both set" in out
        code, out = await Command.run(two, "logout")  # the way out of it
        assert code == 0
        assert "Disconnected" in out


async def test_a_scope_that_a_run_needs_is_missed_though_nobody_asked_for_it(
    broker: Broker,
) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        few = {
            "PIPELINE_KLAVIYO__SCOPES": "accounts:read profiles:read profiles:write "
            "lists:read lists:write"
        }
        assert (await Command.login(environ | few))[0] == 0
        code, out = await Command.run(environ | few, "status")
        assert code == 3
        assert "events:write: not granted" in out
        profiles_only = few | {"PIPELINE_KLAVIYO__GENERATE_EVENTS": "false"}
        assert (await Command.run(environ | profiles_only, "status"))[0] == 0


async def test_a_wrong_app_is_exit_3_before_a_user_is_sent_there(broker: Broker) -> None:
    async with Sandbox() as sandbox:
        environ = oauth_environ(broker.address, sandbox.url)
        for name in ("CLIENT_ID", "CLIENT_SECRET"):
            wrong = environ | {f"PIPELINE_KLAVIYO__{name}": "planted"}
            code, out = await Command.run(wrong, "login", "--no-browser")
            assert code == 3, out
            assert "klaviyo.client_id and klaviyo.client_secret" in out
            assert "/oauth/authorize" not in out


async def test_without_kafka_it_is_exit_4(tmp_path: Path) -> None:
    environ = oauth_environ("127.0.0.1:9", "http://127.0.0.1:9")
    for command in ("login", "logout", "status"):
        code, out = await Command.run(environ, command)
        assert code == 4, out
        assert "127.0.0.1:9" in out


async def test_the_service_waits_for_a_login_and_survives_a_removal(rig: Rig) -> None:
    found: list[str] = []
    secret_of_app = "planted-client-secret"
    rig.set(oauth_client_secret=secret_of_app)
    own = {"klaviyo__client_secret": secret_of_app}
    async with rig.service(**OAUTH | own) as service:
        await rig.customer(id="C-1", email="ada@shop.dev")

        async def halted(expected: int) -> None:
            async with asyncio.timeout(90):
                while await service.metric(
                    "halted", {"reason": "needs_authorisation"}
                ) != expected or await service.get("/readyz") == (0, ""):
                    await asyncio.sleep(0.2)

        await halted(1)
        status, text = await service.get("/readyz")
        assert status == 503
        assert "klaviyo-pipeline login" in text
        environ = oauth_environ(
            rig.bootstrap,
            rig.sandbox.url,
            subscription__name=f"test {rig.number}",
            **own,
        )
        assert (await Command.login(environ))[0] == 0
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == 1)
        found += secrets(rig.sandbox)

        rig.sandbox.oauth.uninstall()
        await rig.customer(id="C-2", email="bea@shop.dev")
        await halted(1)
        assert await service.metric("token_expires_timestamp_seconds") == 0
        assert (await Command.run(environ, "status"))[0] == 3
        assert (await Command.login(environ))[0] == 0
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == 2)
        await halted(0)
        found += secrets(rig.sandbox)
        _, metrics = await service.get("/metrics")
        assert await service.terminate() == 0
    stored = await asyncio.to_thread(everything, rig.bootstrap)
    assert b"oauth/tokens" in stored
    assert len(found) == 4
    for secret in (*found, KEY, secret_of_app):
        assert secret not in service.output + metrics
        assert secret.encode() not in stored


async def test_logins_at_once_and_a_logout_beside_a_service_that_refreshes(
    rig: Rig,
) -> None:
    rig.set(oauth_token_seconds=10)
    environ = oauth_environ(
        rig.bootstrap, rig.sandbox.url, subscription__name=f"test {rig.number}"
    )

    async def pasted() -> tuple[int, str]:
        async with Command(environ, "login", "--paste") as command:
            command.type(await decide(await command.url()))
            return await command.ended(), command.output

    assert (await pasted())[0] == 0
    number = 0

    async def delivered() -> None:
        nonlocal number
        number += 1
        await rig.customer(id=f"C-{number}", email=f"c{number}@shop.dev")
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == number)

    async with rig.service(**OAUTH) as service:
        counts = rig.sandbox.oauth.counts
        logins = [asyncio.create_task(pasted()) for _ in range(3)]
        while counts["refreshed"] < 3 or not all(login.done() for login in logins):
            await delivered()
        assert [login.result()[0] for login in logins] == [0, 0, 0]
        assert counts["refused"] == 4  # each login asks whether the app is known
        assert (await service.get("/readyz"))[0] == 200
        leaving = asyncio.create_task(Command.run(environ, "logout"))
        while not leaving.done():
            await rig.customer(id=f"L-{number}", email=f"l{number}@shop.dev")
            number += 1
        assert leaving.result()[0] == 0
        assert (await pasted())[0] == 0
        await rig.drained()
        assert not await rig.read_dead_letters(0)
        assert await service.terminate() == 0
    assert len(rig.sandbox.state.profiles.by_id) == number


@pytest.mark.kafka
async def test_three_services_refresh_once_per_expiry(kafka: Apache) -> None:
    """The token endpoint is slow, so that all three want to while one does."""
    async with Sandbox(limits=False) as sandbox:
        rig = Rig(kafka.bootstrap, sandbox)
        await rig.create_topics()
        rig.set(oauth_token_seconds=60)
        rig.fault(
            {"match": {"path": "/oauth/token"}, "action": {"kind": "delay", "seconds": 3}}
        )
        own = {"subscription__name": f"test {rig.number}"}
        environ = oauth_environ(kafka.bootstrap, sandbox.url, **own)
        code, out = await Command.login(environ)
        assert code == 0, out
        rig.set(oauth_token_seconds=40)
        async with (
            rig.service(**OAUTH) as one,
            rig.service(**OAUTH) as two,
            rig.service(**OAUTH) as three,
        ):
            services = (one, two, three)
            seen: set[float] = set()
            counts = sandbox.oauth.counts
            async with asyncio.timeout(120):
                while len(seen) < 3:
                    number = len(seen)
                    await rig.customer(id=f"C-{number}", email=f"c{number}@shop.dev")
                    expiries = [
                        await each.metric("token_expires_timestamp_seconds")
                        for each in services
                    ]
                    if len(set(expiries)) == 1 and expiries[0]:
                        seen.add(expiries[0])
                    await asyncio.sleep(0.2)
            # All three went from the login's token to the next, and to the next.
            assert counts["refreshed"] == len(seen) - 1
            assert counts["refused"] == 1  # the login asked whether the app is known
            for each in services:
                assert (await each.get("/readyz"))[0] == 200
                assert await each.terminate() == 0
