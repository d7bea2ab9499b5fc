"""How to reach the cluster: our settings in aiokafka's words, and why it fails."""

import asyncio
import ssl
from typing import Any, Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.helpers import create_ssl_context

from pipeline.errors import KafkaUnreachable, SettingsError
from pipeline.settings import Kafka

__all__ = ["FAILURES", "START_LIMIT", "arguments", "unreachable"]

START_LIMIT: Final = 15.0  # s for the first answer of a broker
# What aiokafka raises while brokers do not do their part; a TimeoutError is an OSError.
# The assertions are its own: about a cluster that for a moment has no broker that is not
# fenced, or a state that its transaction cannot leave.
FAILURES: Final = (KafkaError, OSError, AssertionError)
_LOOK_LIMIT: Final = 3.0  # s for each broker to find out why there was none

_REFUSED: Final = (
    AuthenticationFailedError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
_NETWORK: Final = (
    "Check kafka.bootstrap_servers, kafka.security_protocol and the way to the brokers "
    "(DNS, firewall)."
)
_LOGIN: Final = "Check kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password."
_PLAIN: Final = "Check kafka.security_protocol, and that this is the port with SASL."
_TLS: Final = "Check kafka.security_protocol, kafka.ssl_cafile and kafka.ssl_certfile."
_TRUST: Final = (
    "Check kafka.ssl_cafile, the file of the authorities to trust, and that "
    "kafka.bootstrap_servers has names that stand in the brokers' certificates."
)
_SERVE: Final = (
    "Check kafka.security_protocol, that the addresses the brokers advertise can be "
    "reached from here, and that the cluster is healthy."
)


def arguments(settings: Kafka) -> dict[str, Any]:
    """Give the keyword arguments that every aiokafka client takes.

    Raises `SettingsError` when a certificate file cannot be used.
    """
    found: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
        "client_id": "klaviyo-pipeline",
    }
    if "SSL" in settings.security_protocol:
        found["ssl_context"] = _context(settings)
    if "SASL" in settings.security_protocol:
        found["sasl_mechanism"] = settings.sasl_mechanism
        found["sasl_plain_username"] = settings.sasl_username
        found["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return found


def _context(settings: Kafka) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=settings.ssl_cafile or None,
            certfile=settings.ssl_certfile or None,
            keyfile=settings.ssl_keyfile or None,
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(
            f"kafka.{name} {value}"
            for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
            if (value := getattr(settings, name))
        )
        raise SettingsError(
            f"The certificates for Kafka cannot be used ({files}): {error}. Give files "
            "in PEM format that may be read, and a key that fits the certificate."
        ) from None
    return context


async def unreachable(settings: Kafka) -> KafkaUnreachable:
    """Find out why no broker can be used, and put it in the words of an operator.

    aiokafka logs the reasons and raises only "unable to bootstrap", so this tries once
    more and looks. It names hosts and user-visible causes, never the password.
    """
    options = arguments(settings)
    del options["bootstrap_servers"]
    found, todo = [], _NETWORK
    for host, port, _ in collect_hosts(settings.bootstrap_servers):
        try:
            async with asyncio.timeout(_LOOK_LIMIT):
                connection = await create_conn(host, port, **options)
        except _REFUSED as error:
            found.append(f"{host}:{port} refuses the login ({error})")
            todo = _LOGIN
        except ssl.SSLCertVerificationError as error:
            found.append(f"{host}:{port} is not trusted: {error.verify_message}")
            todo = _TRUST
        except ssl.SSLError as error:
            found.append(f"{host}:{port}: {error.reason or error}")
            todo = _TLS
        except TimeoutError:
            found.append(f"{host}:{port} does not answer")
        except ConnectionResetError:
            # How a broker answers TLS on a plain port, and the other way round.
            found.append(f"{host}:{port} hangs up")
            todo = _TLS if "SSL" in settings.security_protocol else _NETWORK
        except IllegalSaslStateError:
            found.append(f"{host}:{port} offers no login")
            todo = _PLAIN
        except (OSError, KafkaError) as error:
            found.append(f"{host}:{port}: {str(error) or type(error).__name__}")
        else:
            connection.close()
            found.append(f"{host}:{port} takes the connection but does not serve it")
            todo = _SERVE
    return KafkaUnreachable(f"Kafka cannot be used: {'; '.join(found)}. {todo}")
