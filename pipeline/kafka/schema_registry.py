"""Values in Confluent's wire format as JSON, by the schemas of a Schema Registry.

A byte 0, the schema's id in 4 bytes, then the data: JSON for a JSON Schema, binary for
Avro (Confluent, "Formats, Serializers, and Deserializers", wire format). The registry's
own client asks for a schema, once per id; it is the extra `registry`.
"""

import asyncio
import io
import json
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final

import msgspec

from pipeline.errors import SettingsError
from pipeline.observe.health import Health
from pipeline.records import Record
from pipeline.settings import SchemaRegistry as Settings
from schemas.event import Rejected

__all__ = ["SchemaRegistry"]

HEAD: Final = 5  # bytes: 0 and the id
TIMEOUT: Final = 3.0  # s for one request; a stop waits for it
AGAIN: Final = 2.0  # s between tries while the registry is away
# "Subject / version / schema not found" (Schema Registry API, errors). Any other answer
# says something of us, the address or the moment: then the records wait.
_NOT_FOUND: Final = (40401, 40402, 40403)

Reader = Callable[[bytes], bytes]  # the data behind the head -> JSON
_JSON: Final = msgspec.json.Encoder()


class SchemaRegistry:
    """The schemas met so far; asks for a new one before its records are planned."""

    def __init__(self, settings: Settings, health: Health) -> None:
        """Make the client. Raises `SettingsError` without the extra."""
        try:
            library = import_module("confluent_kafka.schema_registry")
            self._avro = import_module("fastavro")
            options = {"url": settings.url, "timeout": TIMEOUT, "max.retries": 0}
            if settings.username:
                secret = settings.password.get_secret_value()
                options["basic.auth.user.info"] = f"{settings.username}:{secret}"
            self._client = library.AsyncSchemaRegistryClient(options)
        except ImportError:
            raise SettingsError(
                "schema_registry.url is set, but the library for it is not installed:"
                " pip install 'klaviyo-pipeline[registry]', or leave the setting blank."
            ) from None
        self._health = health
        self._readers: dict[int, Reader | str] = {}  # or why there is none

    async def ready(self, records: Sequence[Record]) -> bool:
        """Fetch the schemas these need; false, after a while, if the registry is away.

        Then nothing is lost by asking again.
        """
        for record in records:
            number = _schema(record.value)
            if number is None or number in self._readers:
                continue
            self._health.beat("source")
            try:
                self._readers[number] = await self._fetch(number)
            except Exception as error:  # noqa: BLE001  whatever the client raises
                if getattr(error, "error_code", None) not in _NOT_FOUND:
                    self._health.away("schema_registry", _said(error))
                    await asyncio.sleep(AGAIN)
                    return False
                self._readers[number] = "is unknown to the registry"
            self._health.back("schema_registry")
        return True

    def json(self, value: bytes) -> bytes | Rejected:
        """Return the value as JSON; as it is when it is in no wire format."""
        number = _schema(value)
        if number is None:
            return value
        reader = self._readers.get(number, "was not asked for")
        if isinstance(reader, str):
            return _malformed(f"the schema {number} {reader}")
        try:
            return reader(value[HEAD:])
        except Exception as error:  # noqa: BLE001  bytes of another schema fail anyhow
            return _malformed(
                f"no data of the schema {number}: reading raised {type(error).__name__}"
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _fetch(self, number: int) -> Reader | str:
        schema = await self._client.get_schema(number)
        if schema.schema_type == "JSON":
            return bytes
        if schema.schema_type != "AVRO":
            return f"is {schema.schema_type}; only AVRO and JSON can be read"
        texts = await self._texts(schema)
        try:
            parsed = self._parsed(texts)
        except Exception:  # noqa: BLE001  the library has several for a bad schema
            return "is no Avro schema"
        read = self._avro.schemaless_reader
        return lambda data: _JSON.encode(read(io.BytesIO(data), parsed, None))

    async def _texts(self, schema: Any) -> list[str]:  # noqa: ANN401  no types shipped
        """Return an Avro schema, before it those it refers to by name."""
        texts: list[str] = []
        for other in schema.references or ():
            found = await self._client.get_version(other.subject, other.version)
            texts += await self._texts(found.schema)
        return [*texts, schema.schema_str]

    def _parsed(self, texts: list[str]) -> object:
        named: dict[str, object] = {}
        parsed = [
            self._avro.parse_schema(json.loads(text), named_schemas=named)
            for text in dict.fromkeys(texts)  # two may refer to the same
        ]
        return parsed[-1]


def _schema(value: bytes | None) -> int | None:
    if value is None or len(value) <= HEAD or value[0] != 0:
        return None
    return int.from_bytes(value[1:HEAD])


def _malformed(message: str) -> Rejected:
    return Rejected("malformed", "decode", "$", message)


def _said(error: Exception) -> str:
    status = getattr(error, "http_status_code", None)
    why = f"answered {status}" if status else f"does not answer ({type(error).__name__})"
    return f"the Schema Registry {why}; check schema_registry.url and its login"
