"""Settings in aiokafka's words, and what an operator reads when they do not work."""

import asyncio
import socket
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from pipeline.errors import SettingsError
from pipeline.kafka.connection import arguments, unreachable
from pipeline.settings import Kafka


def test_plain_text_needs_only_the_address() -> None:
    assert arguments(Kafka(bootstrap_servers="a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
        "client_id": "klaviyo-pipeline",
    }


def test_a_login_is_handed_on() -> None:
    settings = Kafka(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="ada",
        sasl_password=SecretStr("planted"),
    )
    found = arguments(settings)
    assert found["sasl_mechanism"] == "SCRAM-SHA-512"
    assert found["sasl_plain_username"] == "ada"
    assert found["sasl_plain_password"] == "planted"
    assert found["ssl_context"].check_hostname


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_a_settings_error(
    tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    settings = Kafka(security_protocol="SSL", ssl_cafile=str(file))
    with pytest.raises(SettingsError, match=f"kafka.ssl_cafile {file}"):
        arguments(settings)


async def test_each_address_that_fails_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    error = await unreachable(Kafka(bootstrap_servers=f"{closed},no-such-host.invalid:1"))
    assert closed in str(error)
    assert "no-such-host.invalid:1" in str(error)
    assert "Check kafka.bootstrap_servers" in str(error)
    assert error.exit_code == 4


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
async def test_a_listener_that_is_no_broker_leads_to_the_protocol(
    protocol: Literal["PLAINTEXT", "SSL"],
) -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        settings = Kafka(bootstrap_servers=address, security_protocol=protocol)
        error = await unreachable(settings)
    assert "kafka.security_protocol" in str(error)
    assert f"{address}: ." not in str(error), "a cause is named"
    assert ("kafka.ssl_cafile" in str(error)) == (protocol == "SSL")
