"""The reverse direction: catching up, memory, and getting ready again.

    python -m tests.bench.reverse [--profiles 200000] [--known 1000000] [--latency 0.05]

Yard-sticks: one reader that follows the links of the same pages and does nothing with
them; a bare consumer that reads the same state topic to its end.
"""

import argparse
import asyncio
import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Final

import aiohttp
from aiokafka import AIOKafkaConsumer
from confluent_kafka import Producer

from tests.bench.child import Child
from tests.bench.pages import PAGE
from tests.bench.report import Figure, note, show
from tests.brokers.apache import Apache, find
from tests.ports import free_port

__all__ = ["measure"]

MOST: Final = 250.0  # MiB
LEAST: Final = 0.95  # of the reader's pages a second
READY: Final = 20.0  # s; later only with lines that say how far it is
STICK: Final = 300  # pages of the yard-stick
LONGEST: Final = 600.0  # s for either part
LOOK: Final = 1.0  # s between two looks
FIRST: Final = "/api/profiles?filter=greater-than(updated,1970-01-01T00:00:00Z)"


def measure(
    profiles: int = 200_000, known: int = 1_000_000, latency: float = 0.05
) -> list[Figure]:
    """Fill the state topic, start, and read all pages."""
    number = uuid.uuid4().hex[:8]
    with find() as broker, _pages(STICK * PAGE, latency) as stick:
        topic = f"state-{number}"
        broker.create(topic, cleanup_policy="compact")
        note(f"reverse: {known} profiles into the state topic")
        _fill(broker, topic, f"bench-{number}", known)
        bare = asyncio.run(_consumed(broker, topic)) if known else 0.0
        note("reverse: the reader")
        reader = STICK / asyncio.run(_read(stick.line()))
        with _pages(profiles, latency) as pages:
            url = pages.line()
            with _pipeline(broker, number, url) as ours:
                note(f"reverse: getting ready with {known} profiles")
                ready, lines = _ready(ours)
                note(f"reverse: {profiles} profiles to catch up")
                _catch_up(url, profiles // PAGE)
                peak = ours.peak() / 2**20
                told = _told(url)
                ours.finish()
    asked, answered = told["asked"], told["answered"]
    rate = len(asked) / (answered[-1] - asked[0])
    idle = sum(max(0.0, b - a) for a, b in zip(answered, asked[1:], strict=False))
    note(f"reverse: {idle / len(asked) * 1000:.1f} ms between a page and the next call")
    return [
        Figure("reverse", f"pages of {PAGE} a second", "/s", rate, reader, least=LEAST),
        Figure("reverse", "time without a call", "s", idle),
        Figure("reverse", f"RSS, {known} profiles known", "MiB", peak, most=MOST),
        Figure("reverse", "ready, beside a bare consumer", "s", ready, bare or None),
        Figure(
            "reverse",
            f"ready in {READY:.0f} s, or says how far it is ({lines} lines)",
            "yes/no",
            float(ready <= READY or lines > 0),
            least=1,
        ),
    ]


def _pages(profiles: int, latency: float) -> Child:
    return Child("-m", "tests.bench.pages", str(profiles), str(latency))


def _pipeline(broker: Apache, number: str, url: str) -> Child:
    settings = {
        "SUBSCRIPTION__NAME": f"bench {number}",
        "KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "TOPICS__STATE": f"state-{number}",
        "TOPICS__PROFILES": f"profiles-{number}",
        "TOPICS__DEAD_LETTERS": f"dead-{number}",
        "KLAVIYO__API_URL": url,
        "KLAVIYO__API_KEY": "pk_bench",
        "KLAVIYO__API_REVISION": "2026-07-15",
        "REVERSE__START": "all",
        "REVERSE__SWEEP_INTERVAL": "1e11",  # the first reading of all is due at once
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": str(free_port()),
        "LOG__FORMAT": "json",
    }
    environ = {f"PIPELINE_{name}": value for name, value in settings.items()}
    return Child("-m", "pipeline", "run", "--only", "reverse", environ=environ, log=True)


def _fill(broker: Apache, topic: str, slug: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 20})
    for key, value in _facts(slug, count):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records were not written")


def _facts(slug: str, count: int) -> Iterator[tuple[bytes, bytes]]:
    """What is stored of profiles as a shop has them."""
    content = {
        "external_id": "C-@",
        "email": "customer.@@shop.dev",
        "phone": "+12025550123",
        "first_name": "Ada",
        "last_name": "Lovelace @",
        "locale": "en-US",
        "address.address1": "@ Main Street",
        "address.city": "New York",
        "address.region": "NY",
        "address.zip": "10001",
        "address.country": "United States",
        "properties.tier": "gold",
        "properties.points": 7,
        "properties.tags": ["a", "b", "c"],
        "consent.email": {
            "status": "subscribed",
            "can_receive": True,
            "at": "2025-06-15T15:06:40Z",
        },
    }
    text = json.dumps({"content": content, "at": 1_750_000_000.0}, separators=(",", ":"))
    for number in range(count):
        key = f"{slug}/reverse/profile/01KNOWN{number:010}"
        yield key.encode(), text.replace("@", str(number)).encode()


async def _consumed(broker: Apache, topic: str) -> float:
    """Seconds of the bare consumer."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,  # as ours
    )
    began = time.monotonic()
    await consumer.start()
    (end,) = (await consumer.end_offsets(consumer.assignment())).values()
    while any([await consumer.position(p) < end for p in consumer.assignment()]):
        await consumer.getmany(timeout_ms=500)
    took = time.monotonic() - began
    await consumer.stop()
    return took


async def _read(url: str) -> float:
    """Seconds of the bare reader."""
    path: str | None = url + FIRST
    async with aiohttp.ClientSession() as session:
        began = time.monotonic()
        while path:
            async with session.get(path) as answer:
                path = json.loads(await answer.read())["links"]["next"]
    return time.monotonic() - began


def _ready(ours: Child) -> tuple[float, int]:
    """Seconds until it polls, and how often it said how far it was."""
    began = lines = None
    while line := ours.line():
        if '"running"' in line:
            began, lines = time.monotonic(), 0
        if lines is not None and "reading what was published" in line:
            lines += 1
        if began and '"polling"' in line:
            return time.monotonic() - began, lines or 0
    raise RuntimeError("it ended before it polled")


def _catch_up(url: str, pages: int) -> None:
    """Wait until all pages were read."""
    deadline = time.monotonic() + LONGEST
    while len(_told(url)["answered"]) < pages:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all pages in {LONGEST:.0f} s")
        time.sleep(LOOK)


def _told(url: str) -> dict[str, list[float]]:
    with urllib.request.urlopen(f"{url}/pages", timeout=10) as answer:  # noqa: S310
        told: dict[str, list[float]] = json.load(answer)
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--profiles", type=int, default=200_000)
    parser.add_argument("--known", type=int, default=1_000_000)
    parser.add_argument("--latency", type=float, default=0.05)
    raise SystemExit(not show(measure(**vars(parser.parse_args()))))
