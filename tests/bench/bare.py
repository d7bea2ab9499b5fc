"""The bare loop: consume one, post one. The least latency there can be.

python -m tests.bench.bare BOOTSTRAP TOPIC RECORDS URL
"""

import sys
import uuid
from typing import Any, Final

import aiohttp
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer

_DECODE: Final = msgspec.json.Decoder().decode
_ENCODE: Final = msgspec.json.Encoder().encode


def _body(value: bytes) -> bytes:
    customer = _DECODE(value)["customer"]
    attributes: dict[str, Any] = {
        "external_id": customer["id"],
        "email": customer["email"],
        "first_name": customer["first_name"],
    }
    return _ENCODE({"data": {"type": "profile", "attributes": attributes}})


async def _run(bootstrap: str, topic: str, records: int, url: str) -> None:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    headers = {"Authorization": "Klaviyo-API-Key pk", "revision": "2026-07-15"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await consumer.start()
        for _ in range(records):
            record = await consumer.getone()
            path = f"{url}/api/profile-import"
            async with session.post(path, data=_body(record.value)) as answer:
                await answer.read()
        await consumer.commit()
        await consumer.stop()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
