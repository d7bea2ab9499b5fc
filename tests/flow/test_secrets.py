"""A whole life of a connection, and then a search for all that was secret in it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from cryptography.fernet import Fernet

from pipeline.demo.shop import Made
from pipeline.sandbox import Sandbox
from tests.brokers.apache import PASSWORD, Apache
from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import Rig, until

CLIENT = "hidden-client-secret"
KEY = "pk_hidden00000000000000000000000000001"
PROXY = "hidden-proxy-password"  # for a proxy that we do not use, and must not show


class Secrets:
    """All there ever were, by name; tokens are gathered as Klaviyo makes them."""

    def __init__(self, seal: str) -> None:
        login = base64.b64encode(f"sandbox:{CLIENT}".encode()).decode()
        self.fixed = {CLIENT, login, seal, KEY, PROXY, PASSWORD}
        self.access: list[str] = []
        self.refresh: list[str] = []

    def gather(self, sandbox: Sandbox) -> None:
        for install in sandbox.oauth.installs:
            for kept, given in (
                (self.access, list(install.access)),
                (self.refresh, [install.refresh]),
            ):
                kept += [token for token in given if token and token not in kept]

    def absent(self, where: str, content: bytes) -> None:
        for secret in (*self.fixed, *self.access, *self.refresh):
            at = content.find(secret.encode())
            assert at < 0, f"{where}: {content[max(0, at - 90) : at + 60]!r}"


def commands() -> Iterator[bytes]:
    """The arguments of all processes there are."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield process.read_bytes()


@asynccontextmanager
async def watched(rig: Rig, secrets: Secrets) -> AsyncIterator[set[bytes]]:
    """Gather tokens, and the arguments of all processes there are, in the block."""
    arguments: set[bytes] = set()

    async def watch() -> None:
        while True:
            secrets.gather(rig.sandbox)
            arguments.update(commands())
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    try:
        yield arguments
    finally:
        task.cancel()
        await asyncio.wait([task])


def topics(rig: Rig) -> bytes:
    """All bytes of the rig's topics: keys, values and headers."""
    consumer = Consumer({"bootstrap.servers": rig.bootstrap, "group.id": "eyes"})
    there = consumer.list_topics(timeout=10).topics
    places = [
        TopicPartition(name, number, 0)
        for name in there
        if rig.number in name
        for number in there[name].partitions
    ]
    consumer.assign(places)
    found, idle = b"", 0
    while idle < 20:
        message = consumer.poll(0.1)
        if message is None or message.error():
            idle += 1
            continue
        idle = 0
        found += (message.key() or b"") + (message.value() or b"")
        found += repr(message.headers()).encode()
    consumer.close()
    return found


def files(pid: int) -> bytes:
    """What stands in the files that a process has open; one may have no name any more."""
    found = b""
    for name in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if name.readlink().name.startswith("view.sqlite"):
                found += name.read_bytes()
    return found


def echo(path: str, status: int, times: int, *quoted: str) -> dict[str, Any]:
    """Klaviyo, or something before it, answers with a page that quotes the request."""
    text = " ".join(("$credential", *quoted))
    error = {"id": text, "title": text, "detail": text, "status": status, "code": text}
    body = {"error": "server_error", "error_description": text, "errors": [error]}
    return {
        "match": {"path": path, "times": times},
        "action": {"kind": "status", "status": status, "body": body},
    }


def made(who: str, **more: Any) -> Made:
    value = {"type": "customer.updated", "customer": {"id": who, **more}}
    return Made("shop.customers", who.encode(), json.dumps(value).encode())


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_no_secret_is_found_anywhere_after_a_whole_life(  # noqa: PLR0915 - a life is long
    kafka: Apache, rig: Rig, tmp_path: Path
) -> None:
    if not kafka.ours:
        pytest.skip("needs a broker of ours, with a login")
    seal = Fernet.generate_key().decode()
    secrets, seen = Secrets(seal), dict[str, bytes]()
    login = {
        **kafka.encrypted,
        "topics__state": f"state-{rig.number}",
        "topics__dead_letters": rig.dead_letters,
        "topics__profiles": f"profiles-{rig.number}",
        "log__level": "debug",
    }
    app = {
        "klaviyo__api_key": "",
        "klaviyo__client_id": "sandbox",
        "klaviyo__client_secret": CLIENT,
        "secrets__key": seal,
    }
    back = {
        "reverse__enabled": "true",
        "reverse__interval": "0.5",
        "reverse__start": "all",
        "reverse__folder": str(tmp_path),
    }
    rig.set(oauth_client_secret=CLIENT, oauth_token_seconds=15, limits=False)
    name = {"subscription__name": f"test {rig.number}"}
    environ = oauth_environ(
        kafka.tls, rig.sandbox.url, **(login | app | name), kafka__start="earliest"
    )
    environ["PIPELINE_KAFKA__TOPICS"] = f"{rig.customers},{rig.orders}"
    environ["HTTP_PROXY"] = f"http://house:{PROXY}@127.0.0.1:9"

    async def command(*arguments: str, expected: int, **more: str) -> None:
        own = {f"PIPELINE_{key.upper()}": value for key, value in more.items()}
        code, text = await Command.run(environ | own, *arguments)
        seen[f"{len(seen)} {' '.join(arguments)}"] = text.encode()
        assert code == expected, text

    service = rig.service(**(login | app | back))
    service._environ["HTTP_PROXY"] = environ["HTTP_PROXY"]
    async with watched(rig, secrets) as arguments, service:

        async def halted(expected: int) -> None:
            async with asyncio.timeout(60):
                while (
                    await service.metric("halted", {"reason": "needs_authorisation"})
                    != expected
                ):
                    await asyncio.sleep(0.1)

        await halted(1)
        code, text = await Command.login(environ)
        assert code == 0, text
        seen["login"] = text.encode()
        await halted(0)
        await rig.send([made("C-1", first_name="Ada"), made("C-2", first_name=5)])
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == 1)

        secrets.gather(rig.sandbox)
        rig.fault(
            echo("/oauth/token", 502, 1, *secrets.refresh, CLIENT),
            echo("/oauth/token", 400, 1, *secrets.refresh, CLIENT),
            echo("/api/profile-import", 503, 1),
            echo("/api/profile-import", 400, 1),
            echo("/api/profiles", 503, 1),
        )
        await rig.send([made("C-3"), made("C-4")])
        await until(lambda: rig.sandbox.oauth.counts["refreshed"] >= 2)  # and rotated
        await rig.drained()
        await rig.read_dead_letters(2)
        await asyncio.gather(
            command("status", expected=0),
            command("check", expected=0),
            command("dead-letters", "list", "--each", expected=0),
            command("replay", "--topic", rig.customers, expected=0),
        )

        rig.sandbox.oauth.uninstall()
        await rig.send([made("C-5")])
        await halted(1)
        await command("status", expected=3)
        assert (await Command.login(environ))[0] == 0
        await halted(0)
        await rig.drained()
        for path in ("/metrics", "/readyz", "/livez", "/connect", "/"):
            seen[path] = str(await service.get(path)).encode()
        rig.fault(echo("/oauth/revoke", 500, 1, *secrets.refresh))
        await command("logout", expected=1)
        await command("logout", expected=0)
        await halted(1)
        seen["/readyz halted"] = str(await service.get("/readyz")).encode()
        rig.fault(echo("/api/accounts", 401, 1))
        keyed = {"klaviyo__client_id": "", "klaviyo__client_secret": ""}
        keyed["klaviyo__api_key"] = KEY
        await command("replay", "--topic", rig.customers, expected=3, **keyed)
        await command("status", expected=0, **keyed)
        seen["files"] = files(service.pid)
        assert await service.terminate() == 0
    seen["log"] = service.output.encode()
    seen["topics"] = await asyncio.to_thread(topics, rig)
    seen["arguments"] = b"\n".join(arguments)
    assert len(secrets.access) >= 4
    assert len(secrets.refresh) >= 4
    # The places are the right ones: what is no secret stands there.
    assert b"C-1" in seen["files"]
    assert b"oauth/tokens" in seen["topics"]
    assert b"klaviyo.reason" in seen["topics"]
    assert b"pipeline\0run" in seen["arguments"]
    assert b"account connected" in seen["log"] or b"resumed" in seen["log"]
    for where, content in seen.items():
        assert content, where
        secrets.absent(where, content)
