"""Encrypted on both sides: Kafka by SCRAM over TLS, Klaviyo with an authority of ours."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.demo.shop import Made
from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache
from tests.certificates import Authority
from tests.flow.cli import call
from tests.flow.rig import Rig, until
from tests.reverse.rig import Reverse

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(90)]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def world(kafka: Apache, authority: Authority) -> AsyncIterator[Rig]:
    """Topics on the real broker, and a local Klaviyo that speaks https."""
    async with Sandbox(limits=False, tls=authority.server("127.0.0.1")) as sandbox:
        rig = Rig(kafka.bootstrap, sandbox)
        await rig.create_topics()
        yield rig


def encrypted(kafka: Apache, authority: Authority, **more: str) -> dict[str, str]:
    if not kafka.ours:
        pytest.skip("needs a broker of ours, with SCRAM over TLS")
    own = {"klaviyo__ssl_cafile": str(authority.file)}
    return kafka.encrypted | own | more


async def test_both_directions_go_encrypted(
    kafka: Apache, authority: Authority, world: Rig
) -> None:
    back = Reverse(kafka.bootstrap, world.sandbox)
    settings = encrypted(
        kafka,
        authority,
        reverse__enabled="true",
        reverse__interval="0.2",
        reverse__settle="0",
        reverse__start="all",
        topics__profiles=back.profiles,
        topics__state=back.state,
    )
    edited = back.make("marketer")
    await world.send([Made("shop.orders", b"C-1", b"no message")])
    await world.customer(id="C-1", email="ada@shop.dev")
    async with world.service(**settings) as service:
        await world.drained()
        assert await service.metric("records_settled_total") == 2
        (letter,) = await world.read_dead_letters(1)
        assert letter.value() == b"no message"
        (said,) = [each for each in await back.wait(1) if each.who == edited.id]
        assert said.kind == "created"
        assert await service.terminate() == 0
    assert world.profile("C-1")["email"] == "ada@shop.dev"
    found = await call(world, "check", **settings)
    assert found.code == 0, found.out + found.err


@pytest.mark.parametrize(
    ("fault", "said", "cure"),
    [
        ({"kafka__sasl_password": "not-the-one"}, "refuses the login", "sasl_password"),
        ({"kafka__sasl_mechanism": "SCRAM-SHA-256"}, "refuses", "sasl_mechanism"),
        ({"kafka__ssl_cafile": ""}, "is not trusted", "ssl_cafile"),
        ({"kafka__ssl_cafile": "other"}, "is not trusted", "ssl_cafile"),
        ({"kafka__bootstrap_servers": "localhost"}, "mismatch", "bootstrap_servers"),
        ({"kafka__security_protocol": "SASL_PLAINTEXT"}, "closed", "security_protocol"),
    ],
    ids=["password", "mechanism", "system's CA", "another CA", "name", "not encrypted"],
)
async def test_a_wrong_login_or_certificate_is_said_and_ends_it(
    kafka: Apache,
    authority: Authority,
    world: Rig,
    tmp_path: Path,
    fault: dict[str, str],
    said: str,
    cure: str,
) -> None:
    settings = encrypted(kafka, authority, **fault)
    if fault.get("kafka__ssl_cafile"):
        settings["kafka__ssl_cafile"] = str(Authority(tmp_path / "other").file)
    if "kafka__bootstrap_servers" in fault:  # the certificate is for 127.0.0.1
        settings["kafka__bootstrap_servers"] = kafka.tls.replace("127.0.0.1", "localhost")
    for command in ("run", "check") if said == "refuses the login" else ("run",):
        ended = await call(world, command, **settings)
        assert ended.code == 4, ended.out + ended.err
        text = " ".join((ended.out + ended.err).split())
        assert said in text
        assert f"kafka.{cure}" in text
        assert "not-the-one" not in text
        assert "Traceback" not in text


async def test_who_cannot_prove_to_be_klaviyo_is_told_nothing(
    kafka: Apache, authority: Authority, world: Rig
) -> None:
    """It is waited for, as a proxy may be mended; nothing was asked of it meanwhile."""
    settings = encrypted(kafka, authority, klaviyo__ssl_cafile="")
    await world.customer(id="C-1", email="ada@shop.dev")
    async with world.service(**settings) as service:
        await until(lambda: "klaviyo.ssl_cafile" in service.output, what="the reason")
        assert await service.terminate() == 0
    found = await call(world, "check", **settings)
    assert found.code == 1
    assert "klaviyo.ssl_cafile" in " ".join(found.out.split())
    assert not world.sandbox.ledger.entries


async def test_an_authority_that_cannot_be_read_is_a_settings_error(
    kafka: Apache, authority: Authority, world: Rig
) -> None:
    settings = encrypted(kafka, authority, klaviyo__ssl_cafile="/nowhere.pem")
    ended = await call(world, "run", **settings)
    assert ended.code == 2
    assert "klaviyo.ssl_cafile /nowhere.pem" in " ".join(ended.err.split())
